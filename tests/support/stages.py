"""Asks the same question at several stages of the ledger: the answer has to be the same at each."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime

    from tests.support.energy import Sample
    from tests.support.harness import Harness

_Answer = TypeVar("_Answer")


async def at_every_stage(
    harness: Harness,
    ask: Callable[[], Awaitable[_Answer]],
    *,
    now: datetime,
    meters: Sequence[Sample] = (),
    vehicles: Sequence[Sample] = (),
    mapped: Sequence[tuple[str, str, datetime, datetime | None]] = (),
) -> list[_Answer]:
    """With nothing closed, with all closed at `now`, with every third reading late, and once these are worked off."""
    answers = []
    for is_late in (False, True):
        harness.clear()
        for mapping in mapped:
            await harness.map(*mapping)
        first = {"meters": meters, "vehicles": vehicles}
        if is_late:
            late = {stream: samples[1::3] for stream, samples in first.items()}
            first = {stream: [one for one in samples if one not in late[stream]] for stream, samples in first.items()}
            await harness.write(**first)
            await harness.close(now)
            first = late
        await harness.write(**first)
        answers.append(await ask())
        await harness.close(now)
        answers.append(await ask())
    return answers
