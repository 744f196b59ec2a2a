"""The route of the audit."""

from typing import Annotated, Any, Final

from aiohttp import hdrs, web
from pydantic import Field

from ingestd.http import parameters
from ingestd.http.heavy import heavy
from ingestd.http.operations import Operation, asking
from ingestd.http.services import SERVICES
from ingestd.http.shapes import Answer, Next, UtcTime, next_page
from ingestd.model.audit import Action, AuditFilter


class AuditQuestion(parameters.Page, parameters.Period):
    """Which changes."""

    action: Action | None = None
    subject: str | None = None


class AuditEntry(Answer):
    """One change, with the state before and after; null: there was, or is, nothing."""

    id: int
    at: UtcTime
    who: str
    action: Action
    subject: str
    before: Annotated[Any, Field(description="of any type")]
    after: Annotated[Any, Field(description="of any type")]


class Audit(Answer):
    audit: list[AuditEntry]
    next: Next


@heavy
async def get_audit(request: web.Request, asked: AuditQuestion) -> Audit:
    since, until = asked.since_until()
    wanted = AuditFilter(action=asked.action, subject=asked.subject, since=since, until=until)
    entries = await request.app[SERVICES].audit(wanted, limit=asked.limit, before=asked.before)
    return Audit(
        audit=[
            AuditEntry(
                id=entry.id,
                at=entry.at,
                who=entry.who,
                action=entry.action,
                subject=entry.subject,
                before=entry.before,
                after=entry.after,
            )
            for entry in entries
        ],
        next=next_page([entry.id for entry in entries], limit=asked.limit),
    )


OPERATIONS: Final[tuple[Operation, ...]] = (
    asking(
        hdrs.METH_GET,
        "/v1/audit",
        get_audit,
        summary="Who changed what, the newest first",
        tag="Audit",
        asks=AuditQuestion,
        answers=Audit,
    ),
)
