# ruff: noqa: SIM300 - expected == actual
"""What `/metrics` shows: every series from the start, histograms that count messages, names as promtool wants them."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import pytest

from ingestd.metrics import COMMIT_BUCKETS, Metrics
from ingestd.model.alert import KINDS
from ingestd.model.claims import SessionState
from ingestd.model.stream import STREAMS, WITH_ENERGY
from ingestd.pipeline.buffer import Buffer
from tests.support.promtool import IS_MISSING, MISSING, promtool

if TYPE_CHECKING:
    from collections.abc import Mapping

NAMES = [stream.name for stream in STREAMS]
SOURCES = ("mqtt", "http")
REASONS = (
    "not-json",
    "schema",
    "identity-mismatch",
    "bad-topic",
    "timestamp-out-of-range",
    "too-large",
    "unknown-device",
    "database",
)


def complete_metrics() -> Metrics:
    """With all that daemon.py adds."""
    metrics = Metrics()
    metrics.expose_in_flight(Buffer(metrics=metrics, max_messages=10, flush_at=10, interval=1.0).in_flight)
    metrics.expose_condition(is_ready=lambda: True, is_backlog=lambda: False)
    metrics.expose_clock_difference(lambda: None)
    metrics.expose_replica(is_away=lambda: False, lag=lambda: None)
    metrics.expose_archive(lambda: False)
    metrics.expose_sessions(
        lambda: [
            SessionState(session="ingestd", holder="nobody", is_left=False, reason=None, in_flight=0, free_seconds=0.0)
        ]
    )
    metrics.expose_ledger(lambda: dict.fromkeys(WITH_ENERGY), lambda: dict.fromkeys(WITH_ENERGY, 0))
    metrics.requests.expect("/v1/meters", "GET")
    return metrics


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def commits(metrics: Metrics, source: str) -> Mapping[str, float]:
    """Bucket to messages, of one source."""
    return {
        sample.labels["le"]: sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "ingestd_receipt_to_commit_seconds_bucket" and sample.labels["source"] == source
    }


@pytest.mark.parametrize("counter", ["ingestd_dead_lettered_total", "ingestd_dead_letters_suppressed_total"])
def test_every_reason_of_dead_letters_is_there_from_the_start(counter: str) -> None:
    metrics = complete_metrics()

    for stream, source, reason in product([*NAMES, "unknown"], SOURCES, REASONS):
        assert 0.0 == value(metrics, counter, stream=stream, source=source, reason=reason), (stream, source, reason)


def test_every_term_of_the_balance_is_there_from_the_start() -> None:
    metrics = complete_metrics()

    for stream, source in product(NAMES, SOURCES):
        for counter in ("received", "committed", "duplicate"):
            assert 0.0 == value(metrics, f"ingestd_{counter}_total", stream=stream, source=source)
        assert 0.0 == value(metrics, "ingestd_in_flight", stream=stream, source=source)
    for source in SOURCES:  # what names no stream is received, and becomes a dead letter
        assert 0.0 == value(metrics, "ingestd_received_total", stream="unknown", source=source)
        assert 0.0 == value(metrics, "ingestd_in_flight", stream="unknown", source=source)


def test_all_other_series_are_there_from_the_start() -> None:
    metrics = complete_metrics()

    assert [0.0] * len(KINDS) == [value(metrics, "ingestd_alerts_active", kind=kind) for kind in KINDS]
    for name in ("flush_retries", "stale_acks", "broker_connections", "broker_sessions_lost"):
        assert 0.0 == value(metrics, f"ingestd_{name}_total")
    for status in ("2xx", "4xx", "5xx"):
        assert 0.0 == value(metrics, "ingestd_http_requests_total", route="/v1/meters", method="GET", status=status)
    assert 0.0 == value(metrics, "ingestd_http_request_seconds_count", route="/v1/meters", method="GET")
    assert {0.0} == set(commits(metrics, "mqtt").values()) == set(commits(metrics, "http").values())


def test_a_step_moves_no_series_that_was_not_there() -> None:
    metrics = complete_metrics()
    before = {(s.name, *sorted(s.labels.items())) for family in metrics.registry.collect() for s in family.samples}

    metrics.received("unknown", "mqtt", 1)
    metrics.dead_lettered("unknown", "mqtt", "bad-topic", 1)
    metrics.committed("meter", "http", 2)
    metrics.flushed(0.1, [("mqtt", 0.2, 3)])
    metrics.requests.answered("/v1/meters", "GET", 404, 0.01)

    assert before == {(s.name, *sorted(s.labels.items())) for f in metrics.registry.collect() for s in f.samples}


def test_messages_that_came_together_are_counted_each() -> None:
    metrics = Metrics()

    metrics.flushed(0.1, [("mqtt", 0.3, 400), ("mqtt", 0.05, 20), ("http", 99.0, 1)])

    by_mqtt = commits(metrics, "mqtt")
    assert [*map(str, COMMIT_BUCKETS), "+Inf"] == list(by_mqtt)
    assert {"0.025": 0, "0.05": 20, "0.25": 20, "0.5": 420, "+Inf": 420}.items() <= by_mqtt.items()
    assert {"60.0": 0, "+Inf": 1}.items() <= commits(metrics, "http").items()
    assert 420 == value(metrics, "ingestd_receipt_to_commit_seconds_count", source="mqtt")
    assert 121.0 == pytest.approx(value(metrics, "ingestd_receipt_to_commit_seconds_sum", source="mqtt"))
    assert 421 == value(metrics, "ingestd_flush_messages_sum")
    assert 1 == value(metrics, "ingestd_flush_seconds_count")


@pytest.mark.skipif(IS_MISSING, reason=MISSING)
def test_promtool_finds_nothing_wrong_with_the_names() -> None:
    assert "" == promtool("check", "metrics", given=complete_metrics().exposition())
