"""Which sessions this daemon holds: it claims free ones, hands one over where another daemon has fewer, and loses them
with the database.

The holder of the first session alerts, too.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

import structlog

from ingestd.errors import StoreError
from ingestd.model.claims import Claims, SessionState, quota, to_hand_over
from ingestd.mqtt.session import Session
from ingestd.mqtt.sessions import Sessions
from ingestd.store.session_locks import SessionLocks

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 1.0
TAKE_SECONDS: Final = 2.0
"""A session that has been free for so long is taken by whoever sees it, also by a daemon that has its share already."""
SETTLE_SECONDS: Final = 8.0
"""How long a session that is handed over waits for its acknowledgements. The broker sends the rest to the next one."""


class Holding:
    """The sessions of one daemon."""

    def __init__(
        self,
        *,
        locks: SessionLocks,
        sessions: Sessions,
        alerting: Callable[[], Coroutine[Any, Any, None]],
        on_ready: Callable[[], None],
        on_lost: Callable[[], None],
    ) -> None:
        """`on_ready` is called when the first session is open, `on_lost` when the database may be another one.

        `alerting` runs while the first of all is held.
        """
        self._locks = locks
        self._sessions = sessions.by_id
        self._ids = tuple(sessions.by_id)
        self._alerting = alerting
        self._alerting_task: asyncio.Task[None] | None = None
        self._on_ready = on_ready
        self._on_lost = on_lost
        self._is_ready = False
        self._is_certain = False  # the database said so at the last look
        self._tasks: asyncio.TaskGroup
        self._held: dict[str, asyncio.Task[None]] = {}
        self._leaving: dict[str, asyncio.Task[None]] = {}
        self._claims: Claims | None = None
        self._free_since: dict[str, float] = {}
        self._stranded: frozenset[str] = frozenset()
        self._logged = ""

    @property
    def is_standby(self) -> bool:
        """Whether other daemons hold all sessions."""
        return self._claims is not None and not self._held and not self._leaving

    @property
    def reason(self) -> str | None:
        """Why no telemetry arrives in one of the sessions of this daemon; None if it does in all."""
        reasons = ((session_id, self._sessions[session_id].reason) for session_id in self._held)
        found = next(((session_id, reason) for session_id, reason in reasons if reason), None)
        if found is None:
            return None if self._held else "not connected yet"
        return found[1] if len(self._ids) == 1 else f"{found[0]}: {found[1]}"

    def states(self) -> Sequence[SessionState]:
        """Each session of the settings, and each other that the broker keeps for the group."""
        claims, now = self._claims, asyncio.get_running_loop().time()
        existing = claims.existing.keys() if claims else set[str]()
        return [
            SessionState(
                session=session_id,
                holder=claims.holder(session_id) if claims else "nobody",
                is_left=session_id not in self._sessions,
                reason=self._reason_of(session_id),
                in_flight=self._sessions[session_id].in_flight if session_id in self._sessions else 0,
                free_seconds=now - self._free_since[session_id] if session_id in self._free_since else 0.0,
            )
            for session_id in (*self._ids, *sorted(existing - set(self._ids)))
        ]

    def _reason_of(self, session_id: str) -> str | None:
        if session_id in self._leaving:
            return "handed over"
        if session_id not in self._held:
            return None
        return self._sessions[session_id].reason if self._is_certain else "no word from the database"

    async def run(self) -> None:
        """Until it is cancelled. Raises BrokerError if the first session cannot be opened."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            while True:
                try:
                    await self._step()
                except StoreError as error:
                    self._lost(str(error))
                await self._locks.wait(LOOK_SECONDS)

    async def _step(self) -> None:
        """Look once, and do what follows from it. Raises StoreError."""
        claims = await self._locks.look(self._ids)
        for session_id, task in list(self._leaving.items()):
            if task.done():
                del self._leaving[session_id]
                if claims.holder(session_id) == "this daemon":
                    await self._locks.give(session_id)
        for session_id in list(self._held):
            if claims.holder(session_id) != "this daemon" and not await self._take(session_id, claims):
                self._drop(session_id)
        if not self._is_certain:
            self._is_certain = True
            self._logged = ""
            for session_id in self._held:
                self._sessions[session_id].release("standby")
        await self._take_free(claims)
        self._claims = claims = await self._locks.look(self._ids)
        self._note(claims)
        surplus = None if self._leaving else to_hand_over(self._ids, claims)
        if surplus is not None:
            log.info("session_handed_over", session=surplus, daemons=len(claims.members))
            self._leave(surplus, self._hand_over)
        self._alert()

    async def _take(self, session_id: str, claims: Claims) -> bool:
        return await self._locks.take(session_id, exists=session_id in claims.existing)

    async def _take_free(self, claims: Claims) -> None:
        """Claim free sessions: up to this daemon's share at once, and any that nobody takes."""
        room = quota(self._ids, claims) - len(self._held)
        now = asyncio.get_running_loop().time()
        for session_id in self._ids:
            if claims.holder(session_id) != "nobody" or session_id in self._held or session_id in self._leaving:
                continue
            since = self._free_since.get(session_id, now)
            if (room > 0 or now - since > TAKE_SECONDS) and await self._take(session_id, claims):
                room -= 1
                self._open(session_id)

    def _open(self, session_id: str) -> None:
        log.info("session_claimed", session=session_id)
        session = self._sessions[session_id]
        self._held[session_id] = self._tasks.create_task(self._hold(session), name=f"mqtt-session {session_id}")

    async def _hold(self, session: Session) -> None:
        """Raises BrokerError if it cannot be opened and none was before: then the daemon cannot start."""
        if not self._is_ready:
            await session.open()
        if not self._is_ready:  # several are opened at once
            self._is_ready = True
            self._on_ready()
            self._alert()
        await session.run()

    def _leave(self, session_id: str, how: Callable[[Session], Coroutine[Any, Any, None]]) -> None:
        held, session = self._held.pop(session_id), self._sessions[session_id]
        self._alert()

        async def leave() -> None:
            await how(session)
            held.cancel()
            await asyncio.wait([held])
            await session.end()
            for reason in ("handover", "standby"):
                session.release(reason)

        self._leaving[session_id] = self._tasks.create_task(leave(), name=f"mqtt-leave {session_id}")

    async def _hand_over(self, session: Session) -> None:
        """Stop reading, and acknowledge what was read."""
        session.hold("handover")
        if not await session.settled(within=SETTLE_SECONDS):
            log.warning("session_not_settled", session=session.client_id, in_flight=session.in_flight)

    def _drop(self, session_id: str) -> None:
        """Another daemon has the session now, so this one has nothing to acknowledge in it."""
        log.warning("session_lost_to_another", session=session_id)
        self._leave(session_id, _at_once)

    def _lost(self, reason: str) -> None:
        """It is not certain any more that we hold anything: stop reading before anything else."""
        for session_id in self._held:
            self._sessions[session_id].hold("standby")
        if self._is_certain:
            self._on_lost()
            log.warning("session_locks_lost", reason=reason)
        elif reason != self._logged:
            log.warning("session_locks_unknown", reason=reason)
        self._logged = reason
        self._is_certain = False
        self._free_since = {}  # others may take them meanwhile, and we would not know
        self._alert()

    def _alert(self) -> None:
        """Start or stop alerting with the first session."""
        wanted = self._is_certain and self._is_ready and self._ids[0] in self._held
        if wanted and self._alerting_task is None:
            self._alerting_task = self._tasks.create_task(self._alerting(), name="alerting")
        elif not wanted and self._alerting_task is not None:
            self._alerting_task.cancel()
            self._alerting_task = None

    def _note(self, claims: Claims) -> None:
        """Remember since when sessions have been free."""
        now = asyncio.get_running_loop().time()
        free = [session_id for session_id, holder in claims.holders.items() if holder is None]
        self._free_since = {session_id: self._free_since.get(session_id, now) for session_id in free}
        stranded = {state.session: state.is_left for state in self.states() if state.is_stranded}
        for session_id in stranded.keys() - self._stranded:
            log.error("session_stranded", session=session_id, is_left=stranded[session_id])
        self._stranded = frozenset(stranded)
        if self.is_standby and self._logged != "standby":
            reason = f"another ingestd is active with the client id {self._ids[0]}"
            log.info("standby", client_id=self._ids[0], reason=reason)
            self._logged = "standby"
        elif not self.is_standby:
            self._logged = ""


async def _at_once(_: Session) -> None:
    return
