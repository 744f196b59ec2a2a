"""How long things take between the daemon and the broker."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """All in seconds. The defaults are for the field; tests make them shorter."""

    connect: float = 5.0
    """For the network connection and TLS."""
    answer: float = 10.0
    """For CONNACK, SUBACK and PUBACK."""
    settled: float = 30.0
    """A connection that has lived for so long counts as a good one: the next pause is short again."""
    named: float = 10.0
    """Another client with our id is a trouble until a connection has lived for so long."""
    soon: float = 2.0
    """A connection that ends within this time of a request may have ended because of it."""
    pause_first: float = 0.2
    pause_longest: float = 15.0
    probe_interval: float = 10.0
    probe_within: float = 8.0
    """For SUBACK, PUBACK and the message itself, together; Mosquitto on a busy machine takes milliseconds."""
    ask_again: float = 3600.0
    """After so long on one connection, what was left out is asked for again: it may not have been at fault."""
    deaf: float = 60.0
    """A session whose probes have failed for so long is subscribed anew, and then connected anew."""


IN_THE_FIELD: Final = Timing()
