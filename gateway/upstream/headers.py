"""Which headers pass, in both directions, and which are ours.

Owns: hop-by-hop fields, the customer's credential, the fields that the gateway alone may set.
Does not know: routes, money.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from multidict import CIMultiDict, CIMultiDictProxy

#: RFC 9110 7.6.1 and its elders. Whatever `Connection` names is hop-by-hop as well.
HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

#: Never passed on from a client: credentials, what the gateway sets itself, and what it answers itself.
_NOT_FROM_CLIENTS: Final = HOP_BY_HOP | {
    "host",
    "authorization",
    "x-api-key",
    "expect",
    "forwarded",
    "x-account-id",
    "x-call-id",
    "x-real-ip",
    "content-length",
}
_NOT_FROM_CLIENTS_PREFIXES: Final = ("x-forwarded-", "x-gateway-")

#: Never passed on from an upstream: its limits are those of the service's own account, ours stand in their place.
_NOT_FROM_UPSTREAMS: Final = HOP_BY_HOP | {"ratelimit", "ratelimit-policy", "content-length", "server"}
_NOT_FROM_UPSTREAMS_PREFIXES: Final = ("x-gateway-", "x-ratelimit-")

#: What metering can decode of a reply.
_DECODABLE: Final = ("gzip", "deflate", "identity")


def _named_by_connection(headers: CIMultiDictProxy[str] | CIMultiDict[str]) -> frozenset[str]:
    if "connection" not in headers:
        return frozenset()
    return frozenset(
        name.strip().lower() for value in headers.getall("connection") for name in value.split(",") if name.strip()
    )


def _passing(
    headers: CIMultiDictProxy[str], dropped: frozenset[str], prefixes: tuple[str, ...]
) -> Iterable[tuple[str, str]]:
    named = _named_by_connection(headers)
    for name, value in headers.items():
        lower = name.lower()
        if lower in dropped or lower in named or lower.startswith(prefixes):
            continue
        yield name, value


def request_headers(
    client: CIMultiDictProxy[str],
    *,
    ours: Mapping[str, str],
    credential_header: str,
    decodable_only: bool,
) -> CIMultiDict[str]:
    """The client's headers as the upstream gets them. `ours` are set last and never come from the client.

    With `decodable_only`, `Accept-Encoding` offers just what metering can decode.
    """
    passed = CIMultiDict(_passing(client, _NOT_FROM_CLIENTS, _NOT_FROM_CLIENTS_PREFIXES))
    passed.popall(credential_header, None)
    if decodable_only and "Accept-Encoding" in passed:
        offered = [item.strip() for value in passed.popall("Accept-Encoding") for item in value.split(",")]
        kept = [item for item in offered if item.partition(";")[0].strip().lower() in _DECODABLE]
        passed["Accept-Encoding"] = ", ".join(kept) or "identity"
    passed.update(ours)
    return passed


def reply_headers(upstream: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """The upstream's headers as the client gets them. The length is set by whoever writes the body."""
    return CIMultiDict(_passing(upstream, _NOT_FROM_UPSTREAMS, _NOT_FROM_UPSTREAMS_PREFIXES))
