"""The rules of mappings beneath the routes: any changes against a model, and a change that fails half-way."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ingestd.errors import DataStoreError
from ingestd.model.mapping import Mapping, MappingConflictError
from ingestd.store.mappings import Mappings
from ingestd.store.pool import Pool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CELLS = 6
TOMORROW = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
"""In the future, so that deleting an open segment removes it."""


@pytest.fixture
async def mappings(database_url: str) -> AsyncIterator[Mappings]:
    pool = Pool(database_url)
    await pool.open()
    yield Mappings(pool)
    await pool.close()


def at(cell: int) -> datetime:
    return TOMORROW + timedelta(microseconds=cell)


Run = tuple[str, int, int | None]
"""(meter, from, to), in microseconds after TOMORROW."""


class Model:
    """A vehicle's time, microsecond by microsecond, and what each is given to; the last stands for all that follow."""

    def __init__(self) -> None:
        self._cells: list[tuple[int, str] | None] = [None] * (CELLS + 1)
        self._changes = 0

    def runs(self) -> list[Run]:
        """Of cells that were given away together and still are together."""
        found: list[Run] = []
        for owner, cells in groupby(range(CELLS + 1), self._cells.__getitem__):
            run = list(cells)
            if owner is not None:
                found.append((owner[1], run[0], None if run[-1] == CELLS else run[-1] + 1))
        return found

    def set(self, meter: str, start: int, end: int | None, *, replace: bool) -> list[Run]:
        """What is in the way: nothing, and the change is made; or something, and it is not."""
        if (meter, start, end) in self.runs():
            return []
        stop = CELLS + 1 if end is None else end
        if not replace:
            touched = [run for run in self.runs() if set(range(start, stop)) & set(range(run[1], run[2] or CELLS + 1))]
            ended = [run for run in touched if run[2] is None and run[1] < start]
            if touched != ended:
                return [run for run in touched if run not in ended]
            if ended:
                self._cells[start:] = [None] * (CELLS + 1 - start)
        self._changes += 1
        self._cells[start:stop] = [(self._changes, meter)] * (stop - start)
        return []

    def close(self) -> bool:
        """Remove the open run; whether there is one."""
        if self._cells[CELLS] is None:
            return False
        _, start, _ = self.runs()[-1]
        self._cells[start:] = [None] * (CELLS + 1 - start)
        return True


edges = st.integers(0, CELLS - 1)
changes = st.tuples(st.sampled_from("AB"), edges, st.none() | st.integers(1, CELLS), st.booleans()).filter(
    lambda change: change[2] is None or change[1] < change[2]
)


@settings(
    max_examples=60,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@example(steps=[("A", 0, None, False), ("B", 2, 4, True), None, ("A", 4, None, False)])
@given(steps=st.lists(st.none() | changes, min_size=2, max_size=12))
async def test_any_changes_leave_what_a_model_of_single_microseconds_says(
    mappings: Mappings, steps: list[tuple[str, int, int | None, bool] | None]
) -> None:
    """A step sets a mapping (meter, from, to, replace), or closes the open one."""
    vehicle_id = f"EV-{uuid4().hex[:8]}"
    model = Model()

    def segments(runs: list[Run]) -> list[Mapping]:
        return [
            Mapping(
                vehicle_id=vehicle_id,
                meter_id=meter,
                valid_from=at(start),
                valid_to=None if end is None else at(end),
            )
            for meter, start, end in runs
        ]

    for step in steps:
        if step is None:
            assert model.close() == (await mappings.close(vehicle_id, who="test") is not None)
        else:
            meter, start, end, replace = step
            (asked,) = segments([(meter, start, end)])
            in_the_way = segments(model.set(meter, start, end, replace=replace))
            change: dict[str, Any] = {
                "vehicle_id": vehicle_id,
                "meter_id": meter,
                "valid_from": asked.valid_from,
                "valid_to": asked.valid_to,
                "replace": replace,
                "who": "test",
            }
            if in_the_way:
                with pytest.raises(MappingConflictError) as refused:
                    await mappings.set(**change)
                assert in_the_way == refused.value.segments
            else:
                assert asked == await mappings.set(**change)
        assert segments(model.runs()) == (await mappings.of_vehicle(vehicle_id))[::-1]


async def test_a_change_is_made_whole_or_not_at_all(mappings: Mappings, database_url: str) -> None:
    """The database refuses the new segment when way has been made for it already."""

    async def replace(meter_id: str, start: int, end: int | None) -> Mapping:
        return await mappings.set(
            vehicle_id="EV-1",
            meter_id=meter_id,
            valid_from=at(start),
            valid_to=None if end is None else at(end),
            replace=True,
            who="test",
        )

    before = [await replace("A", 0, 4), await replace("B", 4, None)]
    with psycopg.connect(database_url) as connection:
        connection.execute("ALTER TABLE vehicle_meter_mapping ADD CHECK (meter_id <> 'refused')")

    with pytest.raises(DataStoreError):
        await replace("refused", 1, 6)

    assert before == (await mappings.of_vehicle("EV-1"))[::-1]
