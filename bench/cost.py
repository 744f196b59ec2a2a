"""Cost: what a message takes from the processor at a given rate, and what the daemon takes at the design load."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from bench.daemon import running
from bench.load import Load
from bench.meter import Meter
from bench.report import Column, Table, progress

if TYPE_CHECKING:
    from bench.sizes import Sizes
    from bench.stage import Stage

RATES: Final = ((167.0, 2 / 3), (1000.0, 1 / 6))
"""Messages a second, and for how long, as a part of the time that the sustained rate is held for.

The first is the design load: 10,000 devices that report once a minute. It is watched for long enough to take in what
the daemon does every ten and fifteen seconds.
"""
SETTLING_SECONDS: Final = 2.0
"""From the start of the load until counting begins: first flushes, statements prepared."""


def measure(stage: Stage, sizes: Sizes) -> dict[str, Any]:
    """CPU is user and system time in microseconds a message; `own_core` is the daemon's share of one core."""
    print("Cost: CPU time a message, and the daemon's share of one core")
    table = Table(
        [
            Column("msg/s", "{:,.0f}".format),
            Column("s", "{:.0f}".format),
            Column("ingestd", "{:.1f} µs".format),
            Column("PostgreSQL", "{:.1f} µs".format),
            Column("Mosquitto", "{:.1f} µs".format),
            Column("of a core", "{:.2%}".format),
        ]
    )
    table.head()
    rows: list[dict[str, float]] = []
    for rate, part in RATES:
        row = _cost(stage, rate, sizes.seconds * part)
        table.row(*(row[name] for name in ("rate", "seconds", "own_cpu", "postgres_cpu", "mosquitto_cpu", "own_core")))
        rows.append(row)
    return {"rates": rows}


def _cost(stage: Stage, rate: float, seconds: float) -> dict[str, float]:
    with stage.place() as place, running(place) as daemon:
        progress(f"cost, {rate:,.0f} messages/s for {seconds:.0f} s")
        with Load(place.broker.url, rate=rate) as load:
            time.sleep(SETTLING_SECONDS)
            load.check()
            published = load.published
            meter = Meter(place, daemon)
            time.sleep(seconds)
            own, elapsed = meter.cpu_seconds()["own_cpu"], meter.seconds
            cpu = meter.cpu_a_message(load.published - published)
            load.stop()
        daemon.stop()
    return {"rate": rate, "seconds": elapsed, "own_core": own / elapsed, **cpu}
