"""One hostile account sends as much as it can. The readings of others are stored in time, and the database stays small.

Before there were limits, 4,000 messages of 8 KiB a second that were no JSON became 35 MB of dead letters a second, and
the others waited for 7 to 13 s (p99). docs/security.md has the figures, of longer runs.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, LiteralString

import psycopg
import pytest

from bench.load import Load
from bench.report import percentile
from ingestd.demo.servers import PrivateMosquitto
from ingestd.model.token import made
from ingestd.tokens import TokensFile
from tests.support.daemon import ROOT, Daemon
from tests.support.lag import publish_to_commit, undisturbed
from tests.support.polling import until
from tests.support.readings import count, ledger_has_begun

if TYPE_CHECKING:
    from collections.abc import Iterator

RATE: Final = 4000.0
INVENTED: Final = 20_000.0
"""Readings a second: the account of a gateway sends them in arrays of 10,000."""
SECONDS: Final = 4.0
OTHERS: Final = 200.0
"""Messages a second of 100 devices that mean well."""
DEVICES: Final = 100
MAX_DEVICES: Final = 1000
P99_SECONDS: Final = 3.0
OF_DEVICE: Final = 100
"""Dead letters of a device in an hour, unless it is set."""

_SIZE: Final[LiteralString] = "SELECT pg_database_size(current_database())"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    p99: float  # seconds from publication to commit, of the messages of others
    letters: int
    grown_bytes: int


@dataclass(frozen=True, slots=True)
class Scene:
    daemon: Daemon
    broker_url: str
    database_url: str
    token: str
    """That of a gateway: it may send for any device."""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, shared_database_url: str) -> Iterator[Scene]:
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    token, text = made(name="gateway", scopes=frozenset({"ingest"}), devices=frozenset({"*"}), expires_at=None)
    TokensFile(tokens).add(token)
    with (
        PrivateMosquitto() as broker,
        Daemon(
            mqtt_url=broker.url, database_url=shared_database_url, tokens_file=str(tokens), max_devices=MAX_DEVICES
        ) as daemon,
    ):
        daemon.wait_healthy()
        until(lambda: ledger_has_begun(shared_database_url), within=60)  # so that it is no part of what is measured
        yield Scene(daemon, broker.url, shared_database_url, text)


def size_of(url: str) -> int:
    with psycopg.connect(url) as connection:
        ((size,),) = connection.execute(_SIZE).fetchall()
        return int(size)


@pytest.mark.parametrize(
    ("kind", "letters", "most_bytes"),
    [
        ("nonsense", OF_DEVICE, 4_000_000),
        ("no-reading", OF_DEVICE, 4_000_000),
        ("padded", 0, int(RATE * SECONDS * 250)),  # they are readings, and stored, but without what is not asked for
        ("invented", 2 * OF_DEVICE, 4_000_000),  # the first 100 devices have one each, all others 100 together
    ],
)
def test_the_readings_of_others_are_stored_within_three_seconds_and_the_database_stays_small(
    kind: str, letters: int, most_bytes: int, scene: Scene
) -> None:
    attack = undisturbed(lambda: attacked(kind, scene), is_good=lambda attack: attack.p99 < P99_SECONDS)

    assert attack.p99 < P99_SECONDS, scene.daemon.log_tail()
    assert attack.letters <= letters
    assert attack.grown_bytes < most_bytes
    assert count(scene.database_url, "meter_live") + count(scene.database_url, "vehicle_live") <= MAX_DEVICES
    until(lambda: scene.daemon.request("GET", "/readyz").status == 200)


def attacked(kind: str, scene: Scene) -> Attack:
    """What one attack costs others and the database."""
    url = scene.database_url
    where, rate = (scene.daemon.url, INVENTED) if kind == "invented" else (scene.broker_url, RATE)
    with Load(scene.broker_url, rate=OTHERS, devices=DEVICES) as load:
        until(lambda: count(url, "meter_live") >= DEVICES // 2)
        before, letters_before = size_of(url), count(url, "dead_letter")
        with subprocess.Popen(
            [sys.executable, "-m", "tests.support.hostile", where, kind, str(rate), str(SECONDS)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "HOSTILE_TOKEN": scene.token},
            stdout=subprocess.PIPE,
            text=True,
        ) as hostile:
            seen = publish_to_commit(load, url, is_over=lambda: hostile.poll() is not None, within=SECONDS + 60)
            sent = int(hostile.communicate()[0])

    assert len(seen) > OTHERS * SECONDS / 10
    assert sent > rate * SECONDS / 10  # else the machine is too slow for the attack
    return Attack(
        p99=percentile(seen, 0.99),
        letters=count(url, "dead_letter") - letters_before,
        grown_bytes=size_of(url) - before,
    )
