"""Ports for servers whose address must be known before they listen, or that listen again where they did.

Owns: which ports those are. Does not know: who takes them.
"""

import random
import socket

#: Below those that a kernel gives to whoever connects: else a client could have one by the time that a server listens,
#: and one that tries again and again where nobody listens could even be given that very port, and reach itself.
_PORTS = range(12_000, 32_000)
_CHANCE = random.SystemRandom()  # not the seed of the tests: other runs draw at the same time
_given: set[int] = set()


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses, and nobody was given here before."""
    ports: list[int] = []
    while len(ports) < count:
        port = _CHANCE.choice(_PORTS)
        if port not in _given and _is_free(port):
            _given.add(port)
            ports.append(port)
    return ports


def free_port() -> int:
    """One."""
    return free_ports(1)[0]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: what has ended is over
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
