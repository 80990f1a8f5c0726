"""How many files and sockets a process may have open, and how many customers that makes.

Owns: the system's limit, raised as far as it lets us; what a connection takes of it. Does not know: who is connected.
"""

import resource
from dataclasses import replace
from typing import Final

from gateway.settings.runtime import Limits

#: The ledger's, the spool's and the supervisor's, modules and scripts that are loaded when they are first needed, and
#: connections to services that outlive their customers' for a while.
FILES_OF_ITS_OWN: Final = 64
#: A customer's, and the one to the service.
FILES_OF_A_CONNECTION: Final = 2


def within_files(limits: Limits) -> Limits:
    """No more connections than this process may have files for: who is let in can be served, too."""
    room = _allowed(FILES_OF_ITS_OWN + FILES_OF_A_CONNECTION * limits.connections_max) - FILES_OF_ITS_OWN
    return replace(limits, connections_max=max(1, min(limits.connections_max, room // FILES_OF_A_CONNECTION)))


def _allowed(wanted: int) -> int:
    """What the process may have open: as many as are wanted, where the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft
