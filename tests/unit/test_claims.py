# ruff: noqa: SIM300 - expected == actual
"""Which session is taken and which is handed over, as all daemons of a group decide alike."""

from __future__ import annotations

import random

import pytest

from ingestd.model.claims import Claims, quota, to_hand_over


def claims(me: int, *holders: int | None, members: frozenset[int]) -> Claims:
    return Claims(
        me=me,
        members=members,
        holders={f"s-{number}": holder for number, holder in enumerate(holders, 1)},
        existing={},
    )


def names(count: int) -> list[str]:
    return [f"s-{number}" for number in range(1, count + 1)]


@pytest.mark.parametrize(
    ("me", "holders", "members", "expected"),
    [
        (1, (1, 1, 1, 1), {1, 2}, "s-4"),  # the last: the first session stays, and with it the alerts
        (1, (1, 1, 1, 2), {1, 2}, "s-3"),
        (1, (1, 1, 2, 2), {1, 2}, None),
        (1, (1, 1, 2), {1, 2}, None),  # one more is no reason: it would go to and fro
        (1, (1, 1, 2, 2), {1, 2, 3}, None),  # 2 has as many, and gives
        (2, (1, 1, 2, 2), {1, 2, 3}, "s-4"),
        (1, (1, 1, 1, None), {1, 2}, None),  # first the free one is taken
        (3, (1, 1, 1, 1), {1, 3}, None),
        (1, (1,), {1, 2, 3}, None),
    ],
)
def test_the_one_with_most_hands_one_over(
    me: int, holders: tuple[int | None, ...], members: set[int], expected: str | None
) -> None:
    assert expected == to_hand_over(names(len(holders)), claims(me, *holders, members=frozenset(members)))


def test_handing_over_ends_and_leaves_all_with_about_the_same() -> None:
    chance = random.Random(1)  # noqa: S311
    for _ in range(200):
        members = frozenset(range(1, chance.randint(2, 6)))
        held: list[int | None] = [chance.choice(sorted(members)) for _ in range(chance.randint(1, 12))]
        for _ in range(50):
            gives = {me: to_hand_over(names(len(held)), claims(me, *held, members=members)) for me in members}
            moved = [session for session in gives.values() if session]
            assert len(moved) <= 1
            if not moved:
                break
            fewest = min(members, key=held.count)
            held[names(len(held)).index(moved[0])] = fewest
        counts = [held.count(member) for member in members]
        assert max(counts) - min(counts) <= 1


def test_a_share_is_rounded_up() -> None:
    assert [4, 2, 2, 1, 1] == [
        quota(names(4), claims(1, members=frozenset(range(1, members + 1)))) for members in range(1, 6)
    ]
