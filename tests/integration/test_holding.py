# ruff: noqa: SIM300 - expected == actual
"""What a daemon does about its sessions while the database does not answer."""

from __future__ import annotations

import asyncio
from contextlib import closing
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from ingestd import holding
from ingestd.demo.process import LoopbackPort
from ingestd.holding import Holding
from ingestd.metrics import Metrics
from ingestd.model.decode import Window
from ingestd.mqtt.address import BrokerAddress
from ingestd.mqtt.sessions import Sessions
from ingestd.store.session_locks import SessionLocks


async def no_alerting() -> None:
    raise AssertionError("nothing is held")


async def test_an_outage_of_the_database_is_one_line_and_not_one_at_each_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(holding, "LOOK_SECONDS", 0.01)
    sessions = Sessions(
        ["ingestd"],
        address=BrokerAddress(url="mqtt://127.0.0.1:1", client_id="ingestd"),
        window=Window(max_age=timedelta(days=1), max_skew=timedelta(minutes=5)),
        deliver=lambda _: None,
        metrics=Metrics(),
        read_delay=lambda: 0.0,
        extras=[],
    )
    with closing(LoopbackPort()) as port, capture_logs() as logs:
        locks = SessionLocks(f"postgresql://postgres@127.0.0.1:{port.number}/none", daemon="ingestd")
        held = Holding(
            locks=locks, sessions=sessions, alerting=no_alerting, on_ready=lambda: None, on_lost=lambda: None
        )
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await held.run()

    assert ["session_locks_unknown"] == [line["event"] for line in logs]
    assert not held.is_standby
    assert "not connected yet" == held.reason
