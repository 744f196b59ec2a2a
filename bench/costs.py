"""What one message costs, as the benchmarks measured it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from bench.errors import BenchError


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """CPU in microseconds a message or, where closing is said, a reading; sizes in bytes."""

    own_cpu: float
    postgres_cpu: float
    mosquitto_cpu: float
    closing_own_cpu: float
    closing_postgres_cpu: float
    closing_time: float
    """Microseconds from one reading to the next: quarters are closed on one connection of one daemon."""
    wal: float
    history: float
    """Of a reading, with its indexes."""
    ledger: float
    """Of a device and day."""
    broker_connection: float

    @classmethod
    def of(cls, results: dict[str, Any]) -> Self:
        """From the JSON of a call. A fleet's CPU is that of a million devices: the most that was measured.

        Raises BenchError where a scenario is missing.
        """
        needed = ("sustained", "fleet", "growth", "closing", "connections")
        if missing := [name for name in needed if "error" in results.get(name, {"error": ""})]:
            raise BenchError(f"the JSON has no figures of: {', '.join(missing)}")
        sustained, fleet = results["sustained"], results["fleet"]["fleets"][-1]
        growth, closing = results["growth"], results["closing"]["fleets"][-1]
        longest = growth["lengths"][-1]
        return cls(
            own_cpu=max(sustained["own_cpu"], fleet["own_cpu"]),
            postgres_cpu=max(sustained["postgres_cpu"], fleet["postgres_cpu"]),
            mosquitto_cpu=sustained["mosquitto_cpu"],
            closing_own_cpu=closing["own_cpu"],
            closing_postgres_cpu=closing["postgres_cpu"],
            closing_time=closing["seconds"] / closing["readings"] * 1e6,
            wal=sustained["wal_bytes"],
            history=(longest["history_bytes"] + longest["index_bytes"]) / longest["rows"],
            ledger=longest["ledger_bytes"] / (growth["devices"] * longest["days"]),
            broker_connection=results["connections"]["broker_bytes_each"],
        )
