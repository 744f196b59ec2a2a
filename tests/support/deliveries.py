"""Readings, dead letters and deliveries to test with, and the counters that they move."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ingestd.model.dead_letter import DeadLetter
from ingestd.model.stream import METER, VEHICLE
from ingestd.model.timestamps import to_microseconds
from ingestd.pipeline.delivery import Delivery
from ingestd.pipeline.known_devices import KnownDevices
from ingestd.pipeline.letter_limits import LetterLimits

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prometheus_client import Metric

    from ingestd.metrics import Metrics
    from ingestd.model.dead_letter import Source
    from ingestd.model.stream import Row
    from ingestd.pipeline.delivery import Origin

NOW = to_microseconds(datetime(2026, 11, 20, 10, 30, tzinfo=UTC))
SECOND = 1_000_000

HEADINGS = ("committed", "duplicate", "dead_lettered", "in_flight")
"""The counters of a received message: `in_flight` first, one of the others in the end."""


def meter_row(identity: str = "meter-001", second: int = 0, *, kwh: float = 0.42, register: float | None = None) -> Row:
    """A meter's reading, `second` seconds after NOW; of its register in place of the interval where one is given."""
    return (identity, NOW + second * SECOND, kwh if register is None else None, 231.5, register, NOW)


def vehicle_row(identity: str = "EV-101", second: int = 0, *, soc: float = 85.5, register: float | None = None) -> Row:
    """A vehicle's reading, `second` seconds after NOW; of its register in place of the interval where one is given."""
    return (identity, NOW + second * SECOND, soc, 0.38 if register is None else None, 28.5, register, NOW)


def dead_letter(detail: str = "expected value at line 1 column 1", *, source: Source = "mqtt") -> DeadLetter:
    """The dead letter of a message that was not JSON."""
    return DeadLetter(
        received_at=NOW,
        source=source,
        stream="meter",
        topic="meters/meter-001/telemetry",
        payload=b"volts: many",
        reason="not-json",
        detail=detail,
    )


def delivery_of(
    origin: Origin,
    *,
    meters: Sequence[Row] = (),
    vehicles: Sequence[Row] = (),
    dead: Sequence[DeadLetter] = (),
    source: Source = "mqtt",
    size_bytes: int = 0,
) -> Delivery:
    """One delivery of these readings and dead letters."""
    return Delivery(
        origin=origin,
        source=source,
        ticket=None,
        size_bytes=size_bytes,
        readings={METER: list(meters), VEHICLE: list(vehicles)},
        dead_letters=list(dead),
    )


def all_devices() -> KnownDevices:
    """Without a limit that a test could reach."""
    return KnownDevices(most=10**9)


def all_letters() -> LetterLimits:
    """Without limits that a test could reach."""
    return LetterLimits(most_per_device=10**9, most_bytes=10**12, is_known=lambda *_: True)


def balance(metrics: Metrics) -> dict[str, int]:
    """Readings under each heading, over all streams and sources."""
    totals: Counter[str] = Counter()
    for (heading, _, _), count in by_heading(metrics.registry.collect()).items():
        totals[heading] += count
    return {heading: totals[heading] for heading in ("received", *HEADINGS)}


def assert_balanced(metrics: Metrics) -> None:
    """The counters are in balance, and none is below 0."""
    counts = by_heading(metrics.registry.collect())
    assert all(count >= 0 for count in counts.values()), counts
    assert_counts_balanced(counts)


def assert_counts_balanced(counts: Counter[tuple[str, str, str]]) -> None:
    """received = committed + duplicate + dead_lettered + in_flight, for every stream and source."""
    for stream, source in {key[1:] for key in counts}:
        accounted_for = sum(counts[heading, stream, source] for heading in HEADINGS)
        assert counts["received", stream, source] == accounted_for, (stream, source, counts)


def by_heading(families: Iterable[Metric]) -> Counter[tuple[str, str, str]]:
    """(heading, stream, source) -> readings."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for family in families:
        for sample in family.samples:
            heading = sample.name.removeprefix("ingestd_").removesuffix("_total")
            if heading in {"received", *HEADINGS}:
                counts[heading, sample.labels["stream"], sample.labels["source"]] += int(sample.value)
    return counts
