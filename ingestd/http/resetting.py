"""Resets the connection of a client whose answer cannot be completed."""

import socket
import struct
from typing import Final

from aiohttp import web

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER on, for no time at all


def reset(request: web.Request) -> None:
    """What waits for the client is thrown away, and the client does not take a part for the whole.

    With HTTP/1.0, which some proxies speak, an ordinary close of the connection means that the body is complete.
    """
    if request.transport is not None:
        request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        request.transport.abort()
