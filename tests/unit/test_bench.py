# ruff: noqa: SIM300 - expected == actual
"""What the benchmarks make of their figures: medians and percentiles, the document, the plot."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

from bench.backlog import Backlog, readings
from bench.document import write_document
from bench.errors import BenchError
from bench.load import PACKET_IDS, encoded
from bench.plot import Bar, Panel, chart
from bench.report import medians, percentile
from ingestd.model.dead_letter import DeadLetter
from ingestd.model.decode import decode
from ingestd.model.timestamps import to_microseconds

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 20, 10, 30, tzinfo=UTC)
MACHINE = {
    "time": "2026-11-21T08:00:00+00:00",
    "ingestd": "0.1.0",
    "commit": "abc1234",
    "cpu": "A processor",
    "cores": 2,
    "memory_bytes": 8 * 2**30,
    "load": 0.01,
    "kernel": "6.1",
    "python": "3.11.7",
    "postgresql": "18.4",
    "mosquitto": "2.0.11",
}
DRAINED = {
    "messages_per_second": 75_000.0,
    "of_pipe": 0.66,
    "ingestd_times": 1.0,
    "own_cpu": 8.0,
    "postgres_cpu": 5.5,
    "mosquitto_cpu": 3.5,
    "peak_rss_bytes": 100 * 2**20,
}
DRAIN = {
    "devices": 10_000,
    "messages": {"ingestd": 500_000},
    "medians": {
        "ingestd": DRAINED,
        "pipe": {**DRAINED, "peak_rss_bytes": None},
        "one-by-one": {**DRAINED, "ingestd_times": 50.4},
    },
}


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(number) for number in range(100, 0, -1)]

    assert (50.0, 99.0, 100.0) == (percentile(values, 0.5), percentile(values, 0.99), percentile(values, 1.0))
    assert 7.0 == percentile([7.0], 0.5)


def test_a_median_is_of_each_figure_by_itself() -> None:
    rows: list[dict[str, float | None]] = [
        {"rate": 1.0, "rss": None},
        {"rate": 9.0, "rss": None},
        {"rate": 3.0, "rss": None},
    ]

    assert {"rate": 3.0, "rss": None} == medians(rows)


def test_readings_are_good_and_none_comes_twice() -> None:
    made = list(readings(messages=250, devices=100, until=NOW))

    rows = [
        decode(
            message.device.topic,
            message.payload,
            oldest=to_microseconds(NOW - timedelta(minutes=2)),
            newest=to_microseconds(NOW),
            received_at=0,
        )
        for message in made
    ]
    assert not [row for row in rows if isinstance(row, DeadLetter)]
    assert 250 == len({(message.device, message.timestamp) for message in made})


def test_a_backlog_begins_a_minute_after_every_device_could_have_reported() -> None:
    backlog = Backlog(messages=250, devices=100)

    newest = max(message.timestamp for message in backlog.last.values())
    assert (100, newest - timedelta(minutes=3)) == (backlog.devices, backlog.before)


def test_a_load_has_all_devices_where_they_are_more_than_packet_ids() -> None:
    devices = PACKET_IDS + 500

    parts = encoded(devices, together=1000)

    topics = re.findall(rb"(?:meters|vehicles)/[^/]+/telemetry", b"".join(parts))
    assert (61, 61_000, devices) == (len(parts), len(topics), len(set(topics)))


def test_a_backlog_without_both_streams_is_refused() -> None:
    with pytest.raises(BenchError, match="at least two messages"):
        Backlog(messages=1)


def test_a_chart_is_svg_with_bars_in_proportion() -> None:
    bars = [Bar(label="<ours>", value=4.0, text="4"), Bar(label="other", value=1.0, text="1", ours=False)]

    drawn = ET.fromstring(chart([Panel(title="Rate & more", bars=bars)]))  # noqa: S314 - our own

    texts = [element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")]
    widths = [float(element.attrib["width"]) for element in drawn.iter("{http://www.w3.org/2000/svg}rect")]
    assert ["Rate & more", "<ours>", "4", "other", "1"] == texts
    assert pytest.approx(4.0, rel=0.01) == widths[0] / widths[1]


def test_the_document_holds_what_was_measured_and_says_what_was_not(tmp_path: Path) -> None:
    results: dict[str, Any] = {
        "machine": MACHINE,
        "command": "python -m bench drain reads",
        "drain": DRAIN,
        "reads": {"error": "ingestd does not answer"},
        "closing": {
            "fleets": [{"devices": 500, "readings": 7500, "seconds": 0.25, "own_cpu": 9.9, "postgres_cpu": 5.0}]
        },
        "connections": {"connections": 1000, "broker_bytes_each": 2345.6},
    }

    document, plot = (path.read_text() for path in write_document(results, tmp_path))

    assert "- **75,000 messages a second** from a backlog: 0.66 of an unguaranteed pipe, 50 times one" in document
    assert "| ingestd | 75,000 | 0.660 | 1.0 | 8.0 µs | 5.5 µs | 3.5 µs | 100 MiB |" in document
    assert "| 500 | 7,500 | 0.25 s | 9.9 µs | 5.0 µs |" in document
    assert "| 1,000 | 2,346 bytes |" in document
    assert "A processor, 2 cores, 8 GiB" in document
    assert "Not measured: ingestd does not answer." in document
    assert "Not measured: it was not asked for." in document
    assert [] == re.findall(r"\{\w+\}", document)
    assert "pipe, no guarantee" in plot
