"""Which addresses are public, and what a config allows beside them."""

from ipaddress import ip_address

import pytest

from gateway.core.addresses import Allowed, is_public

INSIDE = """
    0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.127.255.255 127.0.0.1 127.255.255.254 169.254.169.254 172.16.0.1
    172.31.255.255 192.0.0.1 192.0.0.170 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.19.255.255 198.51.100.7
    203.0.113.9 224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255
    :: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe
    64:ff9b:1::1 100::1 2001::1 2001:0:7f00:1::1 2001:db8::1 2002:7f00:1:: 2002:808:808::1 3fff::1 5f00::1 fc00::1
    fd00:ec2::254 fe80::1 fe80::1%eth0 fec0::1 ff02::1 ff0e::1 2620:4f:8000::1
"""
PUBLIC = """
    1.1.1.1 8.8.8.8 44.238.19.20 100.63.255.255 100.128.0.0 172.15.0.1 172.32.0.1 192.0.1.1 198.17.255.255
    223.255.255.254 2606:4700::1111 2a00:1450:4001::200e 2001:4860:4860::8888 64:ff9b::808:808 ::ffff:8.8.8.8
"""


@pytest.mark.parametrize("text", INSIDE.split())
def test_what_leads_inside_is_not_public(text: str) -> None:
    """Private, loopback, link-local, multicast, reserved and embedded addresses are nobody's to name."""
    assert not is_public(ip_address(text))


@pytest.mark.parametrize("text", PUBLIC.split())
def test_what_is_everybodys_is_public(text: str) -> None:
    """Addresses that are routed on the Internet are public, to the neighbours of every special network."""
    assert is_public(ip_address(text))


def test_allowed_are_networks_addresses_and_names() -> None:
    """A network allows its addresses, an address itself, a name itself in any case and with a dot at its end."""
    allowed = Allowed.of(["10.1.0.0/16", "::1", "hooks.internal", "Localhost"])
    assert allowed.has(ip_address("10.1.2.3"))
    assert allowed.has(ip_address("::1"))
    assert not allowed.has(ip_address("10.2.0.1"))
    assert not allowed.has(ip_address("0.0.0.1"))
    assert allowed.has_name("HOOKS.internal.")
    assert allowed.has_name("localhost")
    assert not allowed.has_name("evil.hooks.internal")


@pytest.mark.parametrize("text", ["", "10.0.0.1/8", "10.0.0.0/40", "https://a.example", "a b", "*.internal", "a/b"])
def test_what_is_neither_is_an_error(text: str) -> None:
    """What is no address, network or name is told, not ignored."""
    with pytest.raises(ValueError, match=r"does not|neither|has host"):
        Allowed.of([text])
