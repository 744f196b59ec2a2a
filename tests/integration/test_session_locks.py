# ruff: noqa: SIM300 - expected == actual
"""The locks of sessions: who holds them, and when the database gives them to another daemon."""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest

from ingestd.errors import StoreError
from ingestd.store import session_locks
from ingestd.store.session_locks import SessionLocks
from tests.support.polling import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

IDS = ("ingestd-1", "ingestd-2")
TAKEOVER_SECONDS = 20.0
"""Four times what docs/scaling.md says, for a busy machine."""


@asynccontextmanager
async def new_locks(database_url: str, **options: bool) -> AsyncIterator[SessionLocks]:
    locks = SessionLocks(database_url, daemon="ingestd", shared_group="g", **options)
    try:
        yield locks
    finally:
        await locks.close()


async def try_to_take(locks: SessionLocks, session: str) -> bool:
    await locks.look(IDS)
    return await locks.take(session, exists=True)


async def test_all_see_who_holds_what_and_which_sessions_exist(database_url: str) -> None:
    async with new_locks(database_url) as first, new_locks(database_url) as second:
        await first.look(IDS)
        await second.look(IDS)
        assert await first.take("ingestd-1", exists=False)
        assert not await second.take("ingestd-1", exists=False)

        seen, by_other = await first.look(IDS), await second.look(IDS)

        assert 2 == len(seen.members)
        assert seen.members == by_other.members
        assert ["this daemon", "nobody"] == [seen.holder(session) for session in IDS]
        assert ["another daemon", "nobody"] == [by_other.holder(session) for session in IDS]
        assert {"ingestd-1": "g"} == seen.existing == by_other.existing

        await first.give("ingestd-1")
        assert await second.take("ingestd-1", exists=True)


async def test_who_is_no_member_gets_no_share(database_url: str) -> None:
    async with new_locks(database_url) as daemon, new_locks(database_url, is_member=False) as command:
        await command.look(IDS)

        assert 1 == len((await daemon.look(IDS)).members)


@pytest.mark.skipif(sys.platform != "linux", reason="packets are dropped by a socket filter of Linux")
async def test_the_machine_gone_its_sessions_are_free_within_seconds(database_url: str) -> None:
    async with new_locks(database_url) as gone, new_locks(database_url) as other:
        await gone.look(IDS)
        assert await gone.take("ingestd-1", exists=False)
        receives_nothing(gone)

        await eventually(partial(try_to_take, other, "ingestd-1"), within=TAKEOVER_SECONDS)


async def test_who_asked_nothing_for_too_long_has_lost_them_and_is_told(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_locks, "ANSWER_SECONDS", 2.0)
    async with new_locks(database_url) as slow, new_locks(database_url) as other:
        await slow.look(IDS)
        assert await slow.take("ingestd-1", exists=False)
        await eventually(partial(try_to_take, other, "ingestd-1"), within=30)

        with pytest.raises(StoreError, match="idle-session timeout"):
            await slow.look(IDS)

        assert "another daemon" == (await slow.look(IDS)).holder("ingestd-1")  # connected again


def receives_nothing(locks: SessionLocks) -> None:
    """Have the kernel drop every packet for the connection, so that the server hears nothing, not even a reset."""
    connection = locks._connection  # noqa: SLF001 - no user can do this
    assert connection is not None
    drop_all = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF: return 0
    with socket.fromfd(connection.fileno(), socket.AF_INET, socket.SOCK_STREAM) as duplicate:
        attach_filter = 26
        duplicate.setsockopt(socket.SOL_SOCKET, attach_filter, struct.pack("HL", 1, ctypes.addressof(drop_all)))
