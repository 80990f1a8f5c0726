"""Which headers pass, in both directions, and which are ours.

Owns: hop-by-hop fields, the customer's credential, the fields that the gateway alone may set.
Does not know: routes, money.
"""

from collections.abc import Mapping
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


_NOTHING: Final[frozenset[str]] = frozenset()


def _named_by_connection(headers: CIMultiDictProxy[str] | CIMultiDict[str]) -> frozenset[str]:
    if "connection" not in headers:
        return _NOTHING
    return frozenset(
        name.strip().lower() for value in headers.getall("connection") for name in value.split(",") if name.strip()
    )


class _Filter:
    """Which field names pass. The verdict on a name is kept, for as many names as traffic has in good faith."""

    _NAMES_MAX: Final = 1024

    def __init__(self, dropped: frozenset[str], prefixes: tuple[str, ...]) -> None:
        self._dropped = dropped
        self._prefixes = prefixes
        self._verdicts: dict[str, bool] = {}

    def passing(self, headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
        named = _named_by_connection(headers)
        passed: CIMultiDict[str] = CIMultiDict()
        verdicts = self._verdicts
        for name, value in headers.items():
            passes = verdicts.get(name)
            if passes is None:
                passes = self._judge(name)
            if passes and (not named or name.lower() not in named):
                passed.add(name, value)
        return passed

    def _judge(self, name: str) -> bool:
        lower = name.lower().replace("_", "-")  # some servers read the one as the other
        passes = lower not in self._dropped and not lower.startswith(self._prefixes)
        if len(self._verdicts) < self._NAMES_MAX:
            self._verdicts[name] = passes
        return passes


_FROM_CLIENTS: Final = _Filter(_NOT_FROM_CLIENTS, _NOT_FROM_CLIENTS_PREFIXES)
_FROM_UPSTREAMS: Final = _Filter(_NOT_FROM_UPSTREAMS, _NOT_FROM_UPSTREAMS_PREFIXES)


def request_headers(
    client: CIMultiDictProxy[str],
    *,
    ours: Mapping[str, str],
    credential_header: str,
    decodable_only: bool,
) -> CIMultiDict[str]:
    """The client's headers as the upstream gets them. `ours` are set last and never come from the client.

    With `decodable_only`, `Accept-Encoding` offers just what metering can decode, and no part of a reply is asked for:
    half a reply reports nothing, and half a result is still a result.
    """
    passed = _FROM_CLIENTS.passing(client)
    passed.popall(credential_header, None)
    if decodable_only:
        passed.popall("Range", None)
        passed.popall("If-Range", None)
    if decodable_only and "Accept-Encoding" in passed:
        offered = [item.strip() for value in passed.popall("Accept-Encoding") for item in value.split(",")]
        kept = [item for item in offered if item.partition(";")[0].strip().lower() in _DECODABLE]
        passed["Accept-Encoding"] = ", ".join(kept) or "identity"
    passed.update(ours)
    return passed


def reply_headers(upstream: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """The upstream's headers as the client gets them. The length is set by whoever writes the body."""
    return _FROM_UPSTREAMS.passing(upstream)
