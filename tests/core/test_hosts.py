"""The hosts of URLs, as the most different services read them."""

import pytest

from gateway.core.hosts import hosts_of

SPELLINGS = [
    "https://cdn.example.com/u/1",
    "https:cdn.example.com/u/1",
    "https:/cdn.example.com/u/1",
    "https:///cdn.example.com/u/1",
    "https:\\\\cdn.example.com\\u\\1",
    "HTTP:\\/cdn.example.com/u/1",
    "//cdn.example.com/u/1",
    "cdn.example.com/u/1",
    "cdn.example.com:443/u/1",
    "ftp://cdn.example.com/u/1",
    "\x00\x1f https://cdn.example.com/u/1\u3000",
    "ht\ttps://cdn.\nexample.com/u/1",
    "https://other.example\\@cdn.example.com/u/1",
    "https://cdn.example.com\\@other.example/u/1",
    "https://me:secret@CDN.EXAMPLE.COM.:8443/u/1",
    "https://cdn%2Eexample%2ecom/u/1",
    "https://\uff43dn\uff0eexample\u3002com/u/1",
    "https://cdn\uff61example.com/u/1",
    "https://cdn.ex\u00adam\u200bple.com\u2060/u/1",
    "https://cdn.example.\ufe0fcom/u/1",
]
OTHERS = [
    "",
    "/u/1",
    "cdn",
    "https://cdn.example.com.other.example/",
    "https://other.example/cdn.example.com",
    "https://other.example/?u=https://cdn.example.com/u/1",
    "https://other.example/#@cdn.example.com",
    "https://[cdn.example.com",
    "s3://bucket/cdn.example.com",
]


@pytest.mark.parametrize("url", SPELLINGS)
def test_a_host_is_seen_in_every_spelling_that_some_service_reads_as_it(url: str) -> None:
    """Slashes or none, either slash, escapes, wide and unseen letters, a user before it, nothing but the name."""
    assert "cdn.example.com" in hosts_of(url)


@pytest.mark.parametrize("url", OTHERS)
def test_a_host_is_not_seen_where_it_only_stands(url: str) -> None:
    """Below another host, in a path, a query, a fragment, in what is no URL at all."""
    assert "cdn.example.com" not in hosts_of(url)
