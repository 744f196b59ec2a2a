"""What is to be done next to the ledger, from any progress on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.model.closing import MOST_AT_ONCE, Begin, Close, Make, Progress, Step, plan
from ingestd.model.energy import HOUR, MINUTE, QUARTER
from ingestd.model.ledger import LOOK_AHEAD

NOON = 12 * HOUR


@pytest.mark.parametrize(
    ("closed_until", "made_until", "closable", "expected"),
    [
        pytest.param(None, (None, None), NOON, Begin(), id="nothing is there yet"),
        pytest.param(NOON, (NOON, None), NOON, Begin(), id="a share was never begun"),
        pytest.param(NOON + MINUTE, (NOON, NOON), NOON + 15 * MINUTE, None, id="the quarter is not over"),
        pytest.param(
            NOON + MINUTE, (NOON, NOON), NOON + 16 * MINUTE - 1, None, id="what follows it by a minute is not there"
        ),
        pytest.param(
            NOON + MINUTE,
            (NOON, NOON),
            NOON + 16 * MINUTE,
            Close(NOON + 16 * MINUTE),
            id="it is closed before it is made",
        ),
        pytest.param(
            NOON + 16 * MINUTE,
            (NOON, NOON),
            NOON + 16 * MINUTE,
            Make(0, NOON + QUARTER),
            id="it is made once it is closed",
        ),
        pytest.param(
            NOON + 16 * MINUTE,
            (NOON + QUARTER, NOON),
            NOON + 16 * MINUTE,
            Make(1, NOON + QUARTER),
            id="the share that is behind comes first",
        ),
        pytest.param(
            NOON + 16 * MINUTE, (NOON + QUARTER, NOON + QUARTER), NOON + 16 * MINUTE, None, id="all shares are made"
        ),
        pytest.param(
            0, (0, 0), NOON, Close(MOST_AT_ONCE + LOOK_AHEAD), id="of much that is left an hour is taken at once"
        ),
    ],
)
def test_the_next_step_is(
    closed_until: int | None, made_until: tuple[int | None, ...], closable: int, expected: Step | None
) -> None:
    assert expected == plan(Progress(closed_until=closed_until, made_until=made_until), closable=closable)


def test_shares_that_others_make_are_left_out() -> None:
    progress = Progress(closed_until=NOON + 16 * MINUTE, made_until=(NOON, NOON))
    closable = NOON + 16 * MINUTE

    assert Make(1, NOON + QUARTER) == plan(progress, closable=closable, left_out=frozenset({0}))
    assert None is plan(progress, closable=closable, left_out=frozenset({0, 1}))


@given(
    st.lists(st.integers(0, 50).map(lambda number: number * QUARTER), min_size=1, max_size=4),
    st.integers(0, 60 * HOUR),
)
def test_every_share_is_made_up_to_the_last_quarter_in_order_and_never_before_it_is_closed(
    made: list[int], closable: int
) -> None:
    closed_until = max(made) + LOOK_AHEAD
    last = (closable - LOOK_AHEAD) // QUARTER * QUARTER
    expected = [max(until, last) for until in made]
    for _ in range(1000):
        step = plan(Progress(closed_until=closed_until, made_until=tuple(made)), closable=closable)
        match step:
            case Close(until):
                assert closed_until < until <= closable
                closed_until = until
            case Make(share, until):
                assert made[share] < until <= closed_until - LOOK_AHEAD
                assert made[share] == min(made)
                made[share] = until
            case _:
                break
    assert expected == made
