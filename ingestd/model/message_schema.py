"""The JSON Schema of a message, made from the declaration that the decoder validates with."""

from typing import Any, Final

from ingestd.model.stream import IDENTITY, Stream

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def message_schema(stream: Stream) -> dict[str, Any]:
    """What a payload of the stream must look like.

    A schema cannot say that the id is that of the topic, that the timestamp is a day of the calendar and lies in the
    accepted window, and how many bytes a message may have.
    """
    schema = stream.payload_schema()
    members: dict[str, Any] = schema["properties"]
    for member in members.values():
        member.pop("title", None)
    members[stream.id_key] |= {"pattern": f"^{IDENTITY}$", "description": "the id in the topic; needed by HTTP only"}
    members["timestamp"]["format"] = "date-time"
    schema["title"] = f"{stream.name} message"
    if stream.energy_key:
        schema["oneOf"] = [{"required": [key]} for key in (stream.energy_key, stream.register_key)]
    return {"$schema": DIALECT, **schema}
