"""Places where tests make the daemon fail.

The variable says where and how: `INGESTD_FAILPOINTS="after-commit=kill@3,flush=block:2"`. `@3` means at the third time,
and only then; without it at the first. A failpoint is reached once a flush, never once a message. Without the variable
`reach` does nothing.
"""

import os
import signal
import time
from typing import Final, Literal, TypeAlias

VARIABLE: Final = "INGESTD_FAILPOINTS"

Name: TypeAlias = Literal["flush", "before-commit", "after-commit"]


def _parse(text: str) -> dict[str, tuple[str, int]]:
    armed = {}
    for entry in filter(None, text.split(",")):
        name, _, rest = entry.partition("=")
        action, _, times = rest.partition("@")
        armed[name] = (action, int(times or 1))
    return armed


_armed: Final = _parse(os.environ.get(VARIABLE, ""))


def reach(name: Name) -> None:
    """kill: SIGKILL ourselves; raise: an error nobody expects; block:S: hold the event loop for S seconds."""
    if name not in _armed:
        return
    action, times = _armed[name]
    if times > 1:
        _armed[name] = (action, times - 1)
        return
    del _armed[name]
    kind, _, seconds = action.partition(":")
    match kind:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "raise":
            raise RuntimeError(f"failpoint {name}")
        case "block":
            time.sleep(float(seconds))
        case _:
            raise ValueError(f"{VARIABLE}: no action {action!r}")
