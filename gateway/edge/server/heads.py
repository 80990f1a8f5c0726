"""What of a request's head two servers could read in two ways, beyond what aiohttp's parser refuses itself.

Owns: which heads are refused for that, which request is the last of its connection, because nobody could tell where the
next one begins, and the one form in which the others know a target. Does not know: routes (a path is judged by the
router), answers.
"""

import re
from functools import lru_cache
from typing import Final

import aiohttp
from aiohttp.http_parser import RawRequestMessage

_ABSOLUTE: Final = re.compile(r"https?://([^/?#]*)(.*)", re.IGNORECASE)
#: A name or an address, and a port. What else RFC 3986 allows in a host, nobody is called.
_HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])?(?::[0-9]{0,5})?")


def in_origin_form(message: RawRequestMessage) -> RawRequestMessage:
    """A request whose target names its `Host` as well (RFC 9112 3.2.2), as a client of proxies sends it.

    Any other is what it was: by a target and a `Host` that differ, two servers could be meant.
    """
    found = _ABSOLUTE.fullmatch(message.path)
    if found is None or found[1].lower() != message.headers.get("Host", "").lower():
        return message
    return message._replace(path=found[2] if found[2].startswith("/") else f"/{found[2]}")


def ambiguity(message: RawRequestMessage) -> str:
    """What is wrong with a head; empty where nothing is."""
    version = message.version
    if version is not aiohttp.HttpVersion11 and version is not aiohttp.HttpVersion10:
        return "this is neither HTTP/1.1 nor HTTP/1.0"
    if "#" in message.path:  # the next server would cut it off, and what comes after it
        return "a target has no fragment"
    headers = message.headers
    if "Transfer-Encoding" in headers:
        plain = message.chunked and headers["Transfer-Encoding"].lower() == "chunked"
        if not plain or version is not aiohttp.HttpVersion11:
            return "only chunked is understood in Transfer-Encoding, and only in HTTP/1.1"
    return "" if _is_host(headers.get("Host", "")) else "this is no Host"


@lru_cache(maxsize=256)  # the same clients name the same ones again and again
def _is_host(host: str) -> bool:
    return _HOST.fullmatch(host) is not None


def is_last(message: RawRequestMessage) -> bool:
    """Whether its connection serves nothing after it.

    After a chunked body aiohttp's parser takes the last trailer for a field of the next request; and of what follows
    an `Upgrade` that it does not know, it drops as much as had come.
    """
    return message.chunked or (message.upgrade and message.headers.get("Upgrade", "").lower() != "websocket")
