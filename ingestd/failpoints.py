"""Places where tests make the daemon fail.

The option says where and how: `ingestd run --failpoints after-commit=kill@3,flush=block:2`. `@3` means at the third
time, and only then; without it at the first. A failpoint is reached once a flush, or once for a day of history, never
once a message. Without the option `reach` does nothing. There is no setting for it, so that no file of settings can
make the daemon fail.
"""

import os
import signal
import time
from typing import Final, Literal, TypeAlias

Name: TypeAlias = Literal[
    "flush", "before-commit", "after-commit", "archive-written", "archive-renamed", "before-detach", "before-drop"
]


_armed: Final[dict[str, tuple[str, int]]] = {}


def arm(text: str) -> None:
    """Arm the failpoints of the option."""
    for entry in filter(None, text.split(",")):
        name, _, rest = entry.partition("=")
        action, _, times = rest.partition("@")
        _armed[name] = (action, int(times or 1))


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
            raise ValueError(f"failpoint {name}: no action {action!r}")
