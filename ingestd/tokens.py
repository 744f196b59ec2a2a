"""The file of tokens: one JSON object a line. A token is added, and revoked, by a line at its end."""

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ingestd.errors import ConfigError
from ingestd.model.stream import STREAMS, is_identity
from ingestd.model.token import ALL_DEVICES, Scope, Token

SETTING: Final = "INGESTD_TOKENS_FILE"
NAME_PATTERN: Final = r"^[A-Za-z0-9._:@-]{1,64}$"
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_PRIVATE: Final = stat.S_IRUSR | stat.S_IWUSR
_MOST_BYTES: Final = 16 * 1024 * 1024


def device(text: str) -> str:
    """`meter:ID`, `vehicle:ID`, or `*` for all devices. Raises ValueError."""
    stream, _, device_id = text.partition(":")
    if text != ALL_DEVICES and (stream not in {known.name for known in STREAMS} or not is_identity(device_id)):
        kinds = " or ".join(f"{known.name}:ID" for known in STREAMS)
        raise ValueError(f"a device is {kinds}, or {ALL_DEVICES} for all")
    return text


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class _Added(_Line):
    """A line that adds a token."""

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    scopes: Annotated[frozenset[Scope], Field(min_length=1)]
    devices: frozenset[Annotated[str, AfterValidator(device)]] = frozenset()
    expires: AwareDatetime | None = None

    def token(self) -> Token:
        return Token(
            id=self.id,
            name=self.name,
            digest=self.sha256,
            scopes=self.scopes,
            devices=self.devices,
            expires_at=self.expires,
        )


class _Revoked(_Line):
    """A line that revokes a token."""

    revoked: Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
    at: AwareDatetime


_line: Final[TypeAdapter[_Added | _Revoked]] = TypeAdapter(_Added | _Revoked)


class TokensFile:
    """The file that INGESTD_TOKENS_FILE names. All methods raise ConfigError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Mapping[str, Token]:
        """Tokens by their ids, also those that are expired or revoked. Nobody but the owner may use the file."""
        try:
            # Not blocking: a FIFO would wait for somebody who writes to it.
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                self._check_mode(os.fstat(file.fileno()))
                text = file.read(_MOST_BYTES + 1).decode()
        except OSError as error:
            raise self._error(str(error.strerror)) from error
        except UnicodeDecodeError as error:
            raise self._error("no UTF-8 text") from error
        if len(text) > _MOST_BYTES:
            raise self._error(f"longer than {_MOST_BYTES} bytes")
        return self._parsed(text)

    def add(self, token: Token) -> None:
        """Make the file if there is none."""
        self._append(
            {
                "id": token.id,
                "name": token.name,
                "sha256": token.digest,
                "scopes": sorted(token.scopes),
                "devices": sorted(token.devices),
                "expires": token.expires_at.isoformat() if token.expires_at else None,
            }
        )

    def revoke(self, token_id: str, *, at: datetime) -> None:
        self._append({"revoked": token_id, "at": at.isoformat()})

    def _parsed(self, text: str) -> Mapping[str, Token]:
        tokens: dict[str, Token] = {}
        revoked: set[str] = set()
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip():
                continue
            try:
                parsed = _line.validate_json(line)
            except ValidationError as error:
                raise self._error(f"line {number} is no token") from error
            if isinstance(parsed, _Revoked):
                revoked.add(parsed.revoked)
            elif parsed.id in tokens:
                raise self._error(f"line {number} has the id of an earlier token")
            else:
                tokens[parsed.id] = parsed.token()
        return {token_id: replace(token, is_revoked=token_id in revoked) for token_id, token in tokens.items()}

    def _append(self, line: dict[str, object]) -> None:
        """One write at the end of the file, so that two commands at once spoil nothing."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, _PRIVATE)
            with os.fdopen(descriptor, "r+b", buffering=0) as file:
                self._check_mode(os.fstat(descriptor))
                size = file.seek(0, os.SEEK_END)
                is_whole = size == 0 or os.pread(descriptor, 1, size - 1) == b"\n"  # else somebody has edited it
                file.write((b"" if is_whole else b"\n") + json.dumps(line).encode() + b"\n")
                os.fsync(descriptor)
        except OSError as error:
            raise self._error(str(error.strerror)) from error

    def _check_mode(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise self._error("no ordinary file")
        if status.st_mode & _OTHERS:
            mode = stat.S_IMODE(status.st_mode)
            raise self._error(f"others than its owner can use it (mode {mode:04o}): chmod 600 it")

    def _error(self, reason: str) -> ConfigError:
        return ConfigError(f"{SETTING}: {self._path}: {reason}")
