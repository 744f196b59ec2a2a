"""A PUBLISH that the codec cannot read (MQTT 5.0 §1.2, malformed packet).

The broker has accepted this packet, so it sends it again at every connection until it is acknowledged. The Remaining
Length of the fixed header (§2.1.4) says where it ends. So it can be kept as a dead letter, and acknowledged.
"""

from typing import NamedTuple

from ingestd.model.dead_letter import DeadLetter

_PUBLISH = 3
_LONGEST_LENGTH_BYTES = 4


class MalformedPublish(NamedTuple):
    """The parts of the packet that can be read."""

    size: int  # bytes on the wire
    packet_ids: list[int]  # none for QoS 0
    exactly_once: bool  # QoS 2
    topic: str
    rest: bytes  # properties and payload; where one ends and the other begins is not known

    def dead_letter(self, error: str, received_at: int) -> DeadLetter:
        return DeadLetter.of(
            received_at=received_at,
            source="mqtt",
            stream="unknown",
            topic=self.topic,
            payload=self.rest,
            reason="schema",
            detail=f"malformed PUBLISH packet: {error}",
        )


def is_malformed(error: BaseException) -> bool:
    """Whether the codec raised it for the bytes: a ValueError, or a panic (whose class cannot be imported)."""
    return isinstance(error, ValueError) or type(error).__name__ == "PanicException"


def read_malformed(buffer: memoryview) -> MalformedPublish | None:
    """The PUBLISH at the start of the buffer; None if there is another packet, or only a part of it."""
    if buffer[0] >> 4 != _PUBLISH:
        return None
    length, header_size = _remaining_length(buffer)
    size = header_size + length
    if not header_size or len(buffer) < size or length < 2:  # noqa: PLR2004 - the topic's own length
        return None
    body = bytes(buffer[header_size:size])
    topic_end = 2 + int.from_bytes(body[:2])
    qos = buffer[0] >> 1 & 0b11
    id_end = topic_end + (2 if qos else 0)
    if id_end > length:
        return None
    return MalformedPublish(
        size=size,
        packet_ids=[int.from_bytes(body[topic_end:id_end])] if qos else [],
        exactly_once=qos == 2,  # noqa: PLR2004
        topic=body[2:topic_end].decode(errors="replace"),
        rest=body[id_end:],
    )


def _remaining_length(buffer: memoryview) -> tuple[int, int]:
    """(Remaining Length, size of the fixed header), §1.5.5; (0, 0) if it is not a valid Variable Byte Integer."""
    value = 0
    for index in range(min(_LONGEST_LENGTH_BYTES, len(buffer) - 1)):
        byte = buffer[1 + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:  # noqa: PLR2004 - no continuation bit
            return value, 2 + index
    return 0, 0
