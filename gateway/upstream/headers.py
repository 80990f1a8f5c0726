"""Which headers pass, in both directions, and which are ours.

Owns: hop-by-hop fields, the customer's credential, the fields that the gateway alone may set.
Does not know: routes, money.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
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

#: What `Connection` mostly says: nothing that names a field beside those.
_USUAL: Final = frozenset({"keep-alive", "Keep-Alive", "close", "Upgrade", "upgrade", "keep-alive, Upgrade"})

#: Headers that clients send their key in beside `Authorization`: Anthropic's, ElevenLabs', Azure's and Google's.
KEY_HEADERS: Final = ("x-api-key", "xi-api-key", "api-key", "x-goog-api-key")

#: With these some services serve another method or path than the request's, which is what was admitted.
_INSTEAD: Final = frozenset(
    {"x-http-method", "x-http-method-override", "x-method-override", "x-original-url", "x-rewrite-url"}
)

#: Which of its accounts at a service a client means: with our credential it would be one of ours, or refused.
_OF_ACCOUNTS: Final = frozenset({"openai-organization", "openai-project", "x-goog-user-project"})

#: Never passed on from a client: credentials, what the gateway sets itself, and what it answers itself.
_NOT_FROM_CLIENTS: Final = (
    HOP_BY_HOP
    | _INSTEAD
    | _OF_ACCOUNTS
    | {
        "host",
        "authorization",
        *KEY_HEADERS,
        "expect",
        "forwarded",
        "x-account-id",
        "x-call-id",
        "x-real-ip",
        "content-length",
        "idempotency-key",
    }
)
#: What asks for a part of a reply.
_OF_PARTS: Final = frozenset({"range", "if-range"})
_NOT_FROM_CLIENTS_PREFIXES: Final = ("x-forwarded-", "x-gateway-")

#: Never passed on from an upstream: its limits are those of the service's own account, ours stand in their place; and
#: who that account is is nobody's business.
_NOT_FROM_UPSTREAMS: Final = HOP_BY_HOP | {
    "ratelimit",
    "ratelimit-policy",
    "content-length",
    "server",
    "openai-organization",
    "openai-project",
    "anthropic-organization-id",
    "www-authenticate",
}
_NOT_FROM_UPSTREAMS_PREFIXES: Final = ("x-gateway-", "x-ratelimit-", "anthropic-ratelimit-")

#: What metering can decode of a reply.
_DECODABLE: Final = ("gzip", "deflate", "identity")


class _Filter:
    """Which fields pass. Heads of one kind have the same names: the verdict on these is kept, for a bounded number."""

    _KINDS_MAX: Final = 1024
    _CHARACTERS_MAX: Final = 2048  # of all names of a kind together

    def __init__(self, dropped: frozenset[str], prefixes: tuple[str, ...]) -> None:
        self._dropped = dropped
        self._prefixes = prefixes
        self._kinds: dict[tuple[str, ...], tuple[str, ...]] = {}

    def passing(self, headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
        names = tuple(headers)
        dropped = self._kinds.get(names)
        if dropped is None:
            dropped = self._judge(names)
        passed = headers.copy()
        for name in dropped:
            del passed[name]
        if "Connection" in headers:
            for name in _named(headers.getall("Connection")):
                passed.popall(name, None)
        return passed

    def _judge(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The names among these that do not pass, each once."""
        dropped = {}
        for name in names:
            lower = name.lower()
            read = lower.replace("_", "-")  # some servers read the one as the other
            if read in self._dropped or read.startswith(self._prefixes):
                dropped[lower] = name
        judged = tuple(dropped.values())
        if len(self._kinds) < self._KINDS_MAX and sum(map(len, names)) <= self._CHARACTERS_MAX:
            self._kinds[names] = judged
        return judged


@lru_cache(maxsize=1024)  # a config has as many services at most
def _from_clients(credential_header: str, *, decodable_only: bool) -> _Filter:
    dropped = {credential_header.lower().replace("_", "-"), *(_OF_PARTS if decodable_only else ())}
    return _Filter(_NOT_FROM_CLIENTS | dropped, _NOT_FROM_CLIENTS_PREFIXES)


_FROM_UPSTREAMS: Final = _Filter(_NOT_FROM_UPSTREAMS, _NOT_FROM_UPSTREAMS_PREFIXES)


def end_to_end(headers: CIMultiDictProxy[str]) -> CIMultiDictProxy[str]:
    """The fields without those that `Connection` names: they are for one hop, so nothing that goes on may rest on one.

    What is priced by a field and what the upstream gets of it are then the same.
    """
    if "Connection" not in headers:
        return headers
    said = headers.getall("Connection")
    if len(said) == 1 and said[0] in _USUAL:
        return headers
    kept = headers.copy()
    for name in _named(said):
        kept.popall(name, None)
    return CIMultiDictProxy(kept)


def _named(said: Iterable[str]) -> Iterable[str]:
    """The names in values of `Connection`."""
    return [name.strip() for value in said for name in value.split(",")]


def request_headers(
    client: CIMultiDictProxy[str],
    *,
    ours: Mapping[str, str],
    credential_header: str,
    decodable_only: bool,
) -> CIMultiDict[str]:
    """The client's headers as the upstream gets them. `ours`, the credential among them, are set last and never come
    from the client.

    With `decodable_only`, `Accept-Encoding` offers just what metering can decode, and no part of a reply is asked for:
    half a reply reports nothing, and half a result is still a result.
    """
    passed = _from_clients(credential_header, decodable_only=decodable_only).passing(client)
    if decodable_only and "Accept-Encoding" in passed:
        passed["Accept-Encoding"] = _decodable(*passed.popall("Accept-Encoding"))
    passed.update(ours)
    return passed


@lru_cache(maxsize=256)  # the same clients offer the same ones again and again
def _decodable(*values: str) -> str:
    """What of these offers metering can decode."""
    offered = [item.strip() for value in values for item in value.split(",")]
    kept = [item for item in offered if item.partition(";")[0].strip().lower() in _DECODABLE]
    return ", ".join(kept) or "identity"


def reply_headers(upstream: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """The upstream's headers as the client gets them. The length is set by whoever writes the body."""
    return _FROM_UPSTREAMS.passing(upstream)
