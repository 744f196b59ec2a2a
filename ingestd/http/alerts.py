"""The route of alerts."""

from typing import Annotated, Final, Literal, TypeAlias

from aiohttp import hdrs, web
from pydantic import BeforeValidator, WithJsonSchema

from ingestd.http import parameters
from ingestd.http.operations import Operation, asking
from ingestd.http.services import SERVICES
from ingestd.http.shapes import Answer, Next, UtcTime, next_page
from ingestd.model import alert as model

_STATES: Final[dict[str, model.State]] = {"active": "active", "past": "cleared"}


def _known(kind: object) -> object:
    if kind not in model.KINDS:
        raise ValueError(f"one of {', '.join(model.KINDS)}")
    return kind


Kind: TypeAlias = Annotated[str, BeforeValidator(_known), WithJsonSchema({"type": "string", "enum": [*model.KINDS]})]


class AlertsQuestion(parameters.Page):
    """Which alerts."""

    state: Literal["active", "past"] | None = None
    kind: Kind | None = None
    device: parameters.Identity | None = None


class Alert(Answer):
    """The same as at the broker and in the webhook."""

    id: int
    kind: Kind
    device_id: str | None
    state: model.State
    since: UtcTime
    raised_at: UtcTime | None
    cleared_at: UtcTime | None
    value: float
    limit: float
    detail: str


class Alerts(Answer):
    alerts: list[Alert]
    next: Next


async def get_alerts(request: web.Request, asked: AlertsQuestion) -> Alerts:
    wanted = model.AlertFilter(
        state=_STATES[asked.state] if asked.state else None, kind=asked.kind, subject=asked.device
    )
    found = await request.app[SERVICES].alerts(wanted, limit=asked.limit, before=asked.before)
    shown = [Alert.model_validate(alert.described(), by_alias=True) for alert in found]
    return Alerts(alerts=shown, next=next_page([alert.id for alert in shown], limit=asked.limit))


OPERATIONS: Final[tuple[Operation, ...]] = (
    asking(
        hdrs.METH_GET,
        "/v1/alerts",
        get_alerts,
        summary="Active and past alerts, the newest first",
        tag="Alerts",
        asks=AlertsQuestion,
        answers=Alerts,
    ),
)
