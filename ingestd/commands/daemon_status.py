"""What a daemon says of itself in /health and /metrics."""

import http.client
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from ingestd.commands.daemon_client import DaemonClient, UnreachableError

NO_TOKEN: Final = "the rest needs a token of scope read: INGESTD_TOKEN, or --token-file"  # noqa: S105
_REFUSED: Final = {http.client.UNAUTHORIZED, http.client.FORBIDDEN, http.client.TOO_MANY_REQUESTS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Readings a second."""

    received: float
    committed: float
    duplicate: float
    dead_lettered: float

    def described(self) -> dict[str, float]:
        return {
            "received": self.received,
            "committed": self.committed,
            "duplicate": self.duplicate,
            "deadLettered": self.dead_lettered,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """The counters of the balance over all labels, since the start of the daemon."""

    received: float
    committed: float
    duplicate: float
    dead_lettered: float
    in_flight: float

    def since(self, before: "Counters | None", seconds: float) -> Rates | None:
        """None if it is not known; a daemon that was started in between begins with 0."""
        if before is None or self.received < before.received:
            return None
        return Rates(
            received=(self.received - before.received) / seconds,
            committed=(self.committed - before.committed) / seconds,
            duplicate=(self.duplicate - before.duplicate) / seconds,
            dead_lettered=(self.dead_lettered - before.dead_lettered) / seconds,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStatus:
    """None is what the daemon does not say."""

    status: str
    detail: str | None = None
    health: dict[str, Any] | None = None
    counters: Counters | None = None


def daemon_status(daemon: DaemonClient) -> DaemonStatus:
    """Raises UnreachableError."""
    answer = daemon.get("/health")
    try:
        health = json.loads(answer.body)
        status = str(health["status"])
    except (ValueError, KeyError, TypeError) as error:
        raise UnreachableError(f"{daemon.url}: it is no ingestd that answers ({answer.status})") from error
    if answer.status in _REFUSED:  # a token that is wrong; a body that is a problem
        return DaemonStatus(status=_word(daemon), detail=f"{health.get('detail')}: INGESTD_TOKEN, or --token-file")
    if "broker" not in health:
        return DaemonStatus(status=status, detail=NO_TOKEN)
    metrics = daemon.get("/metrics")
    counters = _counters(metrics.body.decode()) if metrics.status == http.client.OK else None
    return DaemonStatus(status=status, health=health, counters=counters)


def _word(daemon: DaemonClient) -> str:
    return str(json.loads(daemon.get("/readyz").body)["status"])


def _counters(text: str) -> Counters:
    families = list(text_string_to_metric_families(text))
    return Counters(
        received=_sum(families, "ingestd_received_total"),
        committed=_sum(families, "ingestd_committed_total"),
        duplicate=_sum(families, "ingestd_duplicate_total"),
        dead_lettered=_sum(families, "ingestd_dead_lettered_total"),
        in_flight=_sum(families, "ingestd_in_flight"),
    )


def _sum(families: Iterable[Metric], name: str) -> float:
    return sum(sample.value for family in families for sample in family.samples if sample.name == name)
