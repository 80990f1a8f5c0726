"""Which addresses of the Internet are everybody's, and which lead inside: what may be called on a customer's word.

Owns: the networks that are nobody's to name, addresses within addresses, what a config allows all the same.
Does not know: names' addresses (whoever resolves them asks here), URLs, sockets.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from gateway.core.record import record

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: The special-purpose networks of IPv4, as a list of our own: libraries differ from version to version.
_INSIDE_4: Final = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",
        "100.64.0.0/10",  # carriers' own
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local; clouds tell machines their secrets there
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved; broadcast
    )
)
#: All of IPv6 that is assigned to anybody, and what of it is special.
_GLOBAL_6: Final = IPv6Network("2000::/3")
_INSIDE_6: Final = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocols' own: Teredo, ORCHID, benchmarks
        "2001:db8::/32",
        "2002::/16",  # 6to4: an IPv4 address within
        "2620:4f:8000::/48",
        "3fff::/20",
    )
)
#: IPv4 by way of IPv6: as good as the address in its last 32 bits.
_AROUND_4: Final = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))


def is_public(address: Address) -> bool:
    """Whether anybody on the Internet may be meant by it: no machine of ours, and none of our network."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _INSIDE_4)
    if any(address in network for network in _AROUND_4):
        return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
    return address in _GLOBAL_6 and not any(address in network for network in _INSIDE_6)


def address_of(host: str) -> Address | None:
    """The address that a host is written as; None if it is a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


@record
class Allowed:
    """What may be called although it is not public: networks by address, hosts by name whatever their addresses."""

    networks: tuple[Network, ...] = ()
    names: frozenset[str] = frozenset()

    @classmethod
    def of(cls, texts: Sequence[str]) -> "Allowed":
        """From `10.1.0.0/16`, `::1` and `hooks.internal`, in any order. ValueError for what is none of these."""
        networks: list[Network] = []
        names: set[str] = set()
        for text in texts:
            if "/" in text or address_of(text) is not None:
                networks.append(ip_network(text))
            elif text and text.replace("-", "").replace(".", "").isalnum() and text.isascii():
                names.add(text.lower().rstrip("."))
            else:
                raise ValueError(f"neither an address, a network nor the name of a host: {text[:100]}")
        return cls(networks=tuple(networks), names=frozenset(names))

    def has_name(self, host: str) -> bool:
        """Whether the host is allowed by its name."""
        return host.lower().rstrip(".") in self.names

    def has(self, address: Address) -> bool:
        """Whether the address is allowed by itself."""
        return any(address.version == network.version and address in network for network in self.networks)
