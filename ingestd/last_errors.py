"""The last warnings and errors of the log, for `/health`. A bounded list: what is said again counts there."""

from dataclasses import dataclass, replace
from typing import Final

from structlog.typing import EventDict

MOST: Final = 20
MAX_DETAIL: Final = 300  # characters
_LEVELS: Final = {"warning", "error", "critical"}
_NOT_SHOWN: Final = {"event", "level", "timestamp", "request_id", "last_remote", "exc_info", "exception", "stack"}
"""Fields that say nothing of the error, and addresses of clients."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedError:
    """A line of the log that came once or several times."""

    at: str  # RFC 3339, of the last time
    level: str
    event: str
    detail: str
    times: int


class LastErrors:
    """The different lines that came last."""

    def __init__(self, *, most: int = MOST) -> None:
        self._most = most
        self._lines: dict[tuple[str, str], LoggedError] = {}  # in order of their last time

    def note(self, _logger: object, _method: str, line: EventDict) -> EventDict:
        """A processor of structlog, behind those that add the level and the time."""
        if line["level"] in _LEVELS:
            self._add(
                LoggedError(
                    at=line["timestamp"], level=line["level"], event=line["event"], detail=_detail(line), times=1
                )
            )
        return line

    def newest_first(self) -> list[LoggedError]:
        return list(self._lines.values())[::-1]

    def _add(self, one: LoggedError) -> None:
        key = one.event, one.detail
        before = self._lines.pop(key, None)
        self._lines[key] = one if before is None else replace(one, times=before.times + 1)
        if len(self._lines) > self._most:
            del self._lines[next(iter(self._lines))]


def _detail(line: EventDict) -> str:
    """The reason alone if the line has no other field."""
    fields = {name: value for name, value in line.items() if name not in _NOT_SHOWN}
    if fields.keys() == {"reason"}:
        return str(fields["reason"])[:MAX_DETAIL]
    return ", ".join(f"{name}: {value}" for name, value in fields.items())[:MAX_DETAIL]


LAST_ERRORS: Final = LastErrors()
"""Of this process, as the log is."""
