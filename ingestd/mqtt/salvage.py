"""What to do with a PUBLISH that the codec will not read.

The broker let it through, so it would send it again at every connection, and the session would never get past
it. Its frame is told by the fixed header (MQTT 5.0 §2.1), which is enough to keep it as a dead letter and to
acknowledge it.
"""

from typing import NamedTuple

from ingestd.model.dead_letter import MAX_PAYLOAD_BYTES, DeadLetter, Reason

_PUBLISH = 3
_LONGEST_LENGTH_BYTES = 4


class Unreadable(NamedTuple):
    """The frame of one PUBLISH."""

    size: int  # bytes on the wire
    packet_ids: list[int]  # none for QoS 0
    exactly_once: bool  # QoS 2
    topic: str
    rest: bytes  # properties and payload, told apart by nobody

    def dead_letter(self, error: str, received_at: int) -> DeadLetter:
        reason: Reason = "schema"
        return DeadLetter(
            received_at=received_at,
            source="mqtt",
            stream="unknown",
            topic=self.topic[:256].replace("\0", "\ufffd"),
            payload=self.rest[:MAX_PAYLOAD_BYTES],
            reason=reason,
            detail=f"malformed PUBLISH packet: {error}"[:500],
        )


def is_unreadable(error: BaseException) -> bool:
    """Whether the codec objects to the bytes: a ValueError, or a panic (whose class cannot be imported)."""
    return isinstance(error, ValueError) or type(error).__name__ == "PanicException"


def salvage(buffer: memoryview) -> Unreadable | None:
    """The PUBLISH at the start of the buffer by its frame; None where it is none, or not whole."""
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
    return Unreadable(
        size=size,
        packet_ids=[int.from_bytes(body[topic_end:id_end])] if qos else [],
        exactly_once=qos == 2,  # noqa: PLR2004
        topic=body[2:topic_end].decode(errors="replace"),
        rest=body[id_end:],
    )


def _remaining_length(buffer: memoryview) -> tuple[int, int]:
    """(remaining length, size of the fixed header), §1.5.5; (0, 0) where there is no such number."""
    value = 0
    for index in range(min(_LONGEST_LENGTH_BYTES, len(buffer) - 1)):
        byte = buffer[1 + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:  # noqa: PLR2004 - no continuation bit
            return value, 2 + index
    return 0, 0
