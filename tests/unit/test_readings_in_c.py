# ruff: noqa: SIM300 - expected == actual
"""What `examples/esp32/main/readings.c` does with readings: it is compiled into a library, with room for six."""

from __future__ import annotations

import ctypes
import json
import subprocess
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.examples import ESP32, STRICT, compiles

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(not compiles("#include <stdio.h>"), reason="no gcc (apt install gcc libc6-dev)")
ROOM: Final = 6
IN_FLIGHT: Final = 3
START: Final = 1_795_000_000_000
"""Unix time in milliseconds: 2026-11-18T11:06:40Z."""


class Reading(ctypes.Structure):
    _fields_ = (
        ("at_ms", ctypes.c_int64),
        ("kwh_register", ctypes.c_double),
        ("voltage", ctypes.c_double),
        ("message_id", ctypes.c_int),
        ("is_acknowledged", ctypes.c_bool),
    )


class Kept(ctypes.Structure):
    _fields_ = (("kept", Reading * ROOM), ("first", ctypes.c_size_t), ("count", ctypes.c_size_t))


class Ring:
    """The library, with one ring of readings. A reading is named by how many came before it."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._library.readings_next.restype = ctypes.POINTER(Reading)
        self._library.readings_add.argtypes = (
            ctypes.c_void_p,
            ctypes.c_int64,
            ctypes.c_double,
            ctypes.c_double,
        )
        self._kept = Kept()

    def add(self, *numbers: int) -> None:
        for number in numbers:
            self._library.readings_add(ctypes.byref(self._kept), START + number, 1.5, 230.0)

    def send(self) -> list[int]:
        """All that may be under way; the id of a message is 100 more than its number."""
        sent: list[int] = []
        while found := self._library.readings_next(ctypes.byref(self._kept)):
            reading = found.contents
            sent.append(reading.at_ms - START)
            reading.message_id = 100 + sent[-1]
        return sent

    def acknowledge(self, *numbers: int) -> None:
        for number in numbers:
            self._library.readings_acknowledged(ctypes.byref(self._kept), 100 + number)

    def give_up(self, *numbers: int) -> None:
        for number in numbers:
            self._library.readings_given_up(ctypes.byref(self._kept), 100 + number)

    def payload(self) -> str:
        text = ctypes.create_string_buffer(256)
        self._library.readings_payload(ctypes.byref(self._kept.kept[0]), b"meter-001", text)
        return text.value.decode()


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    compiled: Path = tmp_path_factory.mktemp("readings") / "readings.so"
    sizes = [f"-DREADINGS_KEPT={ROOM}", f"-DREADINGS_IN_FLIGHT={IN_FLIGHT}"]
    source = str(ESP32 / "main" / "readings.c")
    subprocess.run([*STRICT, *sizes, "-shared", "-fPIC", source, "-o", str(compiled)], check=True, timeout=60)
    return ctypes.CDLL(str(compiled))


@pytest.fixture
def ring(library: ctypes.CDLL) -> Ring:
    return Ring(library)


def test_so_many_are_under_way_and_an_acknowledgement_makes_room_for_one_more(ring: Ring) -> None:
    ring.add(0, 1, 2, 3, 4)

    assert [0, 1, 2] == ring.send()
    ring.acknowledge(1)
    assert [3] == ring.send()
    ring.acknowledge(0, 2, 3)
    assert [4] == ring.send()
    assert [] == ring.send()


def test_what_is_given_up_is_sent_again(ring: Ring) -> None:
    ring.add(0, 1, 2)
    ring.send()
    ring.acknowledge(0)
    ring.give_up(1)

    assert [1] == ring.send()


def test_the_oldest_goes_when_there_is_no_room(ring: Ring) -> None:
    ring.add(*range(ROOM + 2))

    assert [2, 3, 4] == ring.send()


def test_the_late_acknowledgement_of_a_reading_that_is_gone_changes_nothing(ring: Ring) -> None:
    ring.add(*range(ROOM))
    assert [0, 1, 2] == ring.send()
    ring.add(ROOM)
    ring.acknowledge(0)

    assert [3] == ring.send(), "1 and 2 are still under way"
    ring.acknowledge(1, 2, 3)
    assert [4, 5, 6] == ring.send()


def test_all_are_sent_and_none_twice_over_many_turns(ring: Ring) -> None:
    sent: list[int] = []
    for number in range(50):
        ring.add(number)
        sent += ring.send()
        ring.acknowledge(number)

    assert list(range(50)) == sent


def test_a_reading_is_written_as_the_contract_has_it(ring: Ring) -> None:
    ring.add(7)

    assert {
        "meterId": "meter-001",
        "kwhConsumedAcRegister": 1.5,
        "voltage": 230.0,
        "timestamp": "2026-11-18T11:06:40.007Z",
    } == json.loads(ring.payload())
