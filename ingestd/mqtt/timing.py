"""Times and limits of time between the daemon and the broker."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """All in seconds. The daemon uses the defaults; tests set shorter times."""

    connect: float = 5.0
    """For the network connection and TLS."""
    answer: float = 10.0
    """For CONNACK, SUBACK and PUBACK."""
    stable: float = 30.0
    """A connection that has lived for this long is stable: the next pause is the shortest again."""
    takeover_shown: float = 10.0
    """Another client with our client id is reported until a connection has lived for this long."""
    soon: float = 2.0
    """A connection that ends so soon after a request may have ended because of it."""
    pause_first: float = 0.2
    pause_longest: float = 15.0
    """Between attempts to connect."""
    probe_interval: float = 10.0
    probe_within: float = 8.0
    """For SUBACK, PUBACK and the probe itself, together; Mosquitto on a busy machine takes milliseconds."""
    ask_again: float = 3600.0
    """After this time on one connection, an extra that was left out is requested again."""
    deaf: float = 60.0
    """If probes have failed for this long, the session subscribes again, and then connects again."""


DEFAULT: Final = Timing()
