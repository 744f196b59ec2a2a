"""The official JSON Schema of AsyncAPI, where npm can fetch it; and what a document of topics says, taken apart."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import tarfile
from base64 import b64encode
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PACKAGE: Final = "@asyncapi/specs@6.11.1"
INTEGRITY: Final = "sha512-A3WBLqAKGoJ2+6FWFtpjBlCQ1oFCcs4GxF7zsIGvNqp/klGUHjlA3aAcZ9XMMpLGE8zPeYDz2x9FmO6DSuKraQ=="
SCHEMA: Final = "package/schemas/3.0.0.json"
WITHIN_SECONDS: Final = 60.0


class NotToBeHadError(Exception):
    """Says why the official schema is not to be had here."""


def official_schema(directory: Path) -> dict[str, Any]:
    """That of AsyncAPI 3.0.0; its package is the one that it was when this was written, or nothing."""
    if shutil.which("npm") is None:
        raise NotToBeHadError("npm is not installed")
    command = [
        "npm",
        "pack",
        PACKAGE,
        "--pack-destination",
        str(directory),
        "--cache",
        str(directory / "cache"),
        "--fetch-retries",
        "0",
    ]
    try:
        subprocess.run(command, cwd=directory, check=True, capture_output=True, timeout=WITHIN_SECONDS)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise NotToBeHadError(f"npm cannot fetch {PACKAGE}") from error
    (package,) = directory.glob("*.tgz")
    digest = b64encode(hashlib.sha512(package.read_bytes()).digest()).decode()
    assert f"sha512-{digest}" == INTEGRITY, "another package than the one that was looked at"
    with tarfile.open(package) as archive:
        member = archive.extractfile(SCHEMA)
        assert member is not None
        schema: dict[str, Any] = json.loads(member.read())
        return schema


def references(value: object) -> Iterator[str]:
    """All $ref in a document."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def resolved(document: dict[str, Any], reference: str) -> Any:  # noqa: ANN401 - whatever stands there
    """What a reference inside the document leads to, through further references."""
    assert reference.startswith("#/"), reference
    found: Any = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part.replace("~1", "/").replace("~0", "~")]
    return resolved(document, found["$ref"]) if isinstance(found, dict) and [*found] == ["$ref"] else found


def schema_of_topic(document: dict[str, Any], topic: str) -> dict[str, Any]:
    """The schema of the payloads of the one channel whose address matches the topic."""
    (channel,) = (
        channel
        for channel in document["channels"].values()
        if re.fullmatch(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(channel["address"])), topic)
    )
    (message,) = (resolved(document, message["$ref"]) for message in channel["messages"].values())
    schema: dict[str, Any] = resolved(document, message["payload"]["$ref"])
    return schema
