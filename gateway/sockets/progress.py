"""How much a peer has taken, as the system counts it.

The size of a transport's buffer does not tell everything: over TLS there is a second buffer below it.

Owns: where the count is found. Does not know: who waits for what.
"""

import asyncio
import socket
import struct
import sys
from typing import Final

#: `tcpi_bytes_acked` of Linux's `struct tcp_info`.
_ACKNOWLEDGED: Final = struct.Struct("=120xQ")


def bytes_taken(transport: asyncio.Transport) -> int:
    """What the other machine has confirmed so far; always 0 where the system does not tell."""
    if sys.platform != "linux":
        return 0
    tcp = transport.get_extra_info("socket")
    try:
        told = tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKNOWLEDGED.size)
    except OSError:
        return 0
    taken: int = _ACKNOWLEDGED.unpack(told)[0] if len(told) == _ACKNOWLEDGED.size else 0
    return taken
