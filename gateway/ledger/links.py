"""Which link a URL asks for.

Owns: the choice. Does not know: how either link works.
"""

from gateway.ledger.cluster import ClusterLink, is_cluster
from gateway.ledger.connection import Gate
from gateway.ledger.link import LinkSettings, RedisLink, SingleLink


def open_link(settings: LinkSettings, gate: Gate | None = None) -> RedisLink:
    """The link for `settings.url`, not yet connected (`await link.open()`). A cluster passes no gate.

    Raises ValueError when the URL cannot be read, OSError when its PEM file cannot.
    """
    return ClusterLink(settings) if is_cluster(settings.url) else SingleLink(settings, gate)
