"""Which link a URL asks for: to one server, to the primary that sentinels name, or to a cluster.

Owns: the choice, and that of what a server is asked first. Does not know: how any of them works.
"""

from gateway.ledger.cluster import ClusterLink, is_cluster
from gateway.ledger.connection import Gate
from gateway.ledger.epoch import Epoch, Memory
from gateway.ledger.link import LinkSettings, RedisLink
from gateway.ledger.marks import Marks
from gateway.ledger.sentinel import SentinelLink, is_sentinel
from gateway.ledger.single import SingleLink


def guard(url: str, prefix: str, memory: Memory) -> Gate:
    """Who sees to it that the servers of this URL are those that this machine knew."""
    return Marks(prefix, memory) if is_cluster(url) else Epoch(prefix, memory)


def open_link(settings: LinkSettings, gate: Gate | None = None) -> RedisLink:
    """The link for `settings.url`, not yet connected (`await link.open()`).

    Raises ValueError when the URL cannot be read, OSError when its PEM file cannot.
    """
    if is_cluster(settings.url):
        return ClusterLink(settings, gate)
    return SentinelLink(settings, gate) if is_sentinel(settings.url) else SingleLink(settings, gate)
