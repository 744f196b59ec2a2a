"""What answers have in common: camelCase, UTC with Z, floats in full."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from aiohttp import web
from pydantic_core import to_json

from ingestd.model.answers import ChargingSession, FleetEnergy, Performance
from ingestd.model.efficiency import Compared
from ingestd.model.periods import TimeRange


def answer(body: object, status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    return web.Response(status=status, body=to_json(body), content_type="application/json")


def page(name: str, rows: Sequence[Any], *, limit: int, shape: Callable[[Any], object]) -> web.Response:
    """One page of a list, the newest first: `next` is the `before` of the page that follows, null at the end."""
    return answer(
        {name: [shape(row) for row in rows], "next": rows[-1].id if len(rows) == limit else None},
    )


def rfc3339(at: datetime) -> str:
    """RFC 3339 in UTC with Z; fractions only where there are any."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def time_range(window: TimeRange) -> dict[str, object]:
    return {"start": rfc3339(window.start), "end": rfc3339(window.end)}


def reason(text: str | None) -> dict[str, object]:
    """The member that says why a figure is null or missing; absent if there is no reason."""
    return {} if text is None else {"reason": text}


def energy(found: Performance | FleetEnergy | ChargingSession) -> dict[str, object]:
    return {
        "acConsumed": found.ac_kwh,
        "dcDelivered": found.dc_kwh,
        "efficiencyRatio": found.efficiency_ratio,
    }


def compared(found: Compared) -> dict[str, object]:
    return {"acConsumed": found.ac, "dcDelivered": found.dc, "share": found.share}
