"""Takes readings in by HTTP: with the same checks and the same buffer as MQTT, and an answer after the commit."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from operator import itemgetter
from typing import Any, Final, Literal, TypeAlias, TypedDict
from weakref import WeakValueDictionary

from pydantic_core import from_json

from ingestd.errors import BufferFullError
from ingestd.http.problems import Problem
from ingestd.model.dead_letter import UNKNOWN_STREAM, DeadLetter, Reason
from ingestd.model.decode import Window, decode_object, json_of
from ingestd.model.stream import IDENTITY_RULE, STREAMS, Row, Stream, is_identity
from ingestd.model.timestamps import now_microseconds
from ingestd.pipeline.delivery import Delivery

MAX_READINGS: Final = 10_000
COMMIT_SECONDS: Final = 15.0
"""After this time the answer is 503. The sender may send again; readings that were stored are duplicates then."""
_DECODED_AT_ONCE: Final = 250
"""Elements that are checked at once: about two milliseconds of work. Then other tasks of the event loop run."""
NOT_ALLOWED: Final = "not-allowed"
"""The reason of a reading whose device the token is not bound to. It is kept nowhere, also not as a dead letter."""
_NOT_ALLOWED_DETAIL: Final = "the token is not for this device"

MaySend: TypeAlias = Callable[[str, str], bool]
"""Whether the sender of a request may send readings of a device: name of the stream, id. An
element that names none is of UNKNOWN_STREAM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryPath:
    """A path to which readings are posted."""

    path: str
    stream: Stream | None = None
    """The stream of all its readings; None: the id of each tells its stream."""
    is_batch: bool = False
    """Whether `{"readings": [...]}` is taken too, in place of the array."""


class Rejected(TypedDict):
    """A reading that was refused; `index` is its place in the request."""

    index: int
    reason: Reason | Literal["not-allowed"]
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The outcome of a request."""

    single: bool  # one reading, not an array of them
    accepted: int
    duplicates: int
    rejected: list[Rejected]


@dataclass(slots=True, kw_only=True)
class _Ticket:
    """The index of each reading in the request, and the future that the request waits for."""

    settled: asyncio.Future[None]
    single: bool
    index_of: dict[tuple[Stream, Row], int] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)


class Intake:
    """The origin of all HTTP deliveries."""

    def __init__(
        self,
        *,
        window: Window,
        admit: Callable[[], None],
        put: Callable[[Delivery], None],
        reason: Callable[[], str | None],
    ) -> None:
        """`admit` raises BufferFullError if the buffer is full. `reason` says why nothing can be stored now."""
        self._window = window
        self._admit = admit
        self._put = put
        self._reason = reason
        self._decoding = asyncio.Lock()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def admit(self) -> None:
        """Raises BufferFullError if the sender must send later."""
        self._admit()
        if reason := self._reason():
            raise BufferFullError(reason)

    async def submit(self, body: bytearray, *, to: TelemetryPath, client: str, may_send: MaySend) -> Receipt:
        """Take in one reading or an array of them, and wait for the commit. Clients take turns.

        Raises Problem where the body is neither, and BufferFullError where the sender has to wait. In the latter case
        the readings may be stored all the same; sending them again is safe.
        """
        turn = self._turns.setdefault(client, asyncio.Lock())
        # One body of each client waits, so that nobody waits for all bodies of another; one body at a time is decoded,
        # because it may take twenty times its size.
        async with turn, self._decoding:
            self.admit()
            delivery, ticket = await self._decoded(body, to, may_send)
        self._put(delivery)
        try:
            async with asyncio.timeout(COMMIT_SECONDS):
                # Shielded: `settle` sets the future's result, also after this request has given up.
                await asyncio.shield(ticket.settled)
        except TimeoutError as error:
            raise BufferFullError(f"not committed within {COMMIT_SECONDS:.0f} s") from error
        return _receipt(delivery, ticket)

    async def _decoded(self, body: bytearray, to: TelemetryPath, may_send: MaySend) -> tuple[Delivery, _Ticket]:
        parsed = _parsed(body, to)
        items = parsed if isinstance(parsed, list) else [parsed]
        ticket = _Ticket(settled=asyncio.get_running_loop().create_future(), single=items is not parsed)
        delivery = Delivery(origin=self, source="http", ticket=ticket, size_bytes=len(body))
        received_at = now_microseconds()
        oldest, newest = self._window.around(received_at)
        for index, item in enumerate(items):
            if index % _DECODED_AT_ONCE == _DECODED_AT_ONCE - 1:
                await asyncio.sleep(0)
            decoded = _decode(item, to, may_send, oldest=oldest, newest=newest, received_at=received_at)
            if decoded is None:
                ticket.rejected.append(Rejected(index=index, reason=NOT_ALLOWED, detail=_NOT_ALLOWED_DETAIL))
            elif isinstance(decoded, DeadLetter):
                delivery.dead_letters.append(decoded)
                ticket.rejected.append(Rejected(index=index, reason=decoded.reason, detail=decoded.detail))
            else:
                stream, row = decoded
                delivery.readings[stream].append(row)
                ticket.index_of.setdefault((stream, row[:2]), index)
        return delivery, ticket

    def settle(self, deliveries: Sequence[Delivery]) -> None:
        """Set the outcome of each request whose readings are committed."""
        for delivery in deliveries:
            assert isinstance(delivery.ticket, _Ticket)  # noqa: S101 - we made it
            delivery.ticket.settled.set_result(None)


def _parsed(body: bytearray, to: TelemetryPath) -> object:
    """Raises Problem."""
    try:
        parsed = from_json(body)
    except ValueError as error:
        raise Problem(HTTPStatus.BAD_REQUEST, f"not JSON: {error}") from error
    if to.is_batch and isinstance(parsed, dict) and isinstance(readings := parsed.get("readings"), list):
        parsed = readings
    if isinstance(parsed, list) and len(parsed) > MAX_READINGS:
        raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{len(parsed)} readings, at most {MAX_READINGS} a request")
    return parsed


def _decode(
    item: object, to: TelemetryPath, may_send: MaySend, *, oldest: int, newest: int, received_at: int
) -> tuple[Stream, Row] | DeadLetter | None:
    """An element of the request as a row of its stream, or as a dead letter; None if the sender may not send it."""
    try:
        stream, identity, reading = _addressed(item, to.stream)
    except ValueError as error:
        if not may_send(UNKNOWN_STREAM, ""):
            return None
        return DeadLetter.of(
            received_at=received_at,
            source="http",
            stream=UNKNOWN_STREAM,
            topic=f"POST {to.path}",
            payload=json_of(item),
            reason="schema",
            detail=str(error),
        )
    if not may_send(stream.name, identity):
        return None
    return decode_object(stream, identity, reading, oldest=oldest, newest=newest, received_at=received_at)


def _addressed(item: object, of_path: Stream | None) -> tuple[Stream, str, dict[str, Any]]:
    """The stream and the device of a reading; and the reading. Its id field tells both. Raises ValueError.

    Where the path tells the stream already, the reading must not say that it is of another one.
    """
    if not isinstance(item, dict):
        raise ValueError("a reading is a JSON object")  # noqa: TRY004 - said of the sender's data, not of our code
    kind = item.get("type")
    named = [stream for stream in STREAMS if stream.id_key in item]
    if of_path is not None and (named != [of_path] or kind not in (None, of_path.name)):
        raise ValueError(f'{of_path.id_key} is required here, and the id or "type" of another kind is not taken')
    named = [stream for stream in named if kind in (None, stream.name)]
    if len(named) != 1:
        keys = " or ".join(stream.id_key for stream in STREAMS)
        raise ValueError(f'exactly one of {keys} says what it is, and "type", where given, agrees with it')
    identity = item[named[0].id_key]
    if not isinstance(identity, str) or not is_identity(identity):
        raise ValueError(f"{named[0].id_key}: {IDENTITY_RULE}")
    return named[0], identity, item


def _receipt(delivery: Delivery, ticket: _Ticket) -> Receipt:
    outcome = delivery.outcome
    rejected = ticket.rejected + [
        Rejected(index=ticket.index_of[r.stream, r.row[:2]], reason=r.reason, detail=r.detail) for r in outcome.rejected
    ]
    accepted = sum(outcome.committed.values())
    total = sum(map(len, delivery.readings.values()))
    return Receipt(
        single=ticket.single,
        accepted=accepted,
        duplicates=total - accepted - len(outcome.rejected),
        rejected=sorted(rejected, key=itemgetter("index")),
    )
