r"""The host that a URL leads to, however it is spelled, so that no spelling of it passes for another one's.

Owns: how differently services read one text: by the letter of RFC 3986, and as browsers do, to whom `https:host`,
`https:/host` and `https:\\host` are the same; and what names may hold that nobody looks up (UTS 46).
Does not know: whose a host is.
"""

import re
from typing import Final
from unicodedata import normalize
from urllib.parse import unquote, urlsplit

#: What is not read before and behind a URL, and nowhere in it.
_AROUND: Final = "".join(map(chr, range(0x21)))
_WITHIN: Final = str.maketrans(dict.fromkeys("\t\n\r"))
#: What may stand before the host: a scheme that slashes follow, or one that browsers expect a host behind anyway.
_BEFORE_HOST: Final = re.compile(r"(?:[a-z][a-z0-9+.-]*:(?=/)|https?:)?/*", re.IGNORECASE)


def hosts_of(url: str) -> frozenset[str]:
    """Every host that some service may read in a text; nothing where there is none."""
    text = url.strip().strip(_AROUND).translate(_WITHIN)
    lenient = _BEFORE_HOST.sub("//", text.replace("\\", "/"), count=1)
    return frozenset(filter(None, (_host(text), _host(lenient))))


def _host(url: str) -> str:
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return ""  # no service can read it either
    host = normalize("NFKC", unquote(host)).replace("\u3002", ".").casefold()
    # What is ignored in names is not ASCII: hyphens that do not show, joiners, marks.
    return host.encode("ascii", "ignore").decode().rstrip(".")
