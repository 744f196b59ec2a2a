"""How much is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What each scenario takes is one of these or a fixed part of it, so that a trial run is small everywhere."""

    messages: int
    """In the longest backlog that is drained several times."""
    rounds: int
    seconds: float
    """How long the sustained rate is held."""
    devices: int
    """Whose history is read, with a reading a minute each."""
    history_days: int
    kept_days: int | None
    """Of how many of them the readings are there; None: of all."""
