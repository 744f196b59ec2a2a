"""What a daemon says of itself in /health and /metrics."""

import http.client
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from ingestd.commands.daemon_client import DaemonClient, UnreachableError

NO_TOKEN: Final = "the rest needs a token of scope read: INGESTD_TOKEN, or --token-file"  # noqa: S105
_COUNTERS: Final = {
    "received": "ingestd_received_total",
    "committed": "ingestd_committed_total",
    "duplicate": "ingestd_duplicate_total",
    "deadLettered": "ingestd_dead_lettered_total",
}
_REFUSED: Final = {http.client.UNAUTHORIZED, http.client.FORBIDDEN, http.client.TOO_MANY_REQUESTS}


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStatus:
    """None is what the daemon does not say."""

    status: str
    detail: str | None = None
    health: dict[str, Any] | None = None
    counters: Mapping[str, float] | None = None
    """Of the balance, over all labels, since the start of the daemon."""
    in_flight: float | None = None


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
    if metrics.status != http.client.OK:
        return DaemonStatus(status=status, health=health)
    families = list(text_string_to_metric_families(metrics.body.decode()))
    return DaemonStatus(
        status=status,
        health=health,
        counters={name: _sum(families, metric) for name, metric in _COUNTERS.items()},
        in_flight=_sum(families, "ingestd_in_flight"),
    )


def rates(before: DaemonStatus, now: DaemonStatus, *, seconds: float) -> dict[str, float] | None:
    """Readings a second; None if they are not known: a daemon that was started in between begins with 0."""
    if before.counters is None or now.counters is None or now.counters["received"] < before.counters["received"]:
        return None
    return {name: (now.counters[name] - before.counters[name]) / seconds for name in _COUNTERS}


def _word(daemon: DaemonClient) -> str:
    return str(json.loads(daemon.get("/readyz").body)["status"])


def _sum(families: Iterable[Metric], name: str) -> float:
    return sum(sample.value for family in families for sample in family.samples if sample.name == name)
