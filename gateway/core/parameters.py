"""Query parameters as data, so that conditions and measures read them like fields of JSON.

Owns: what a parameter's text counts as, when it is on, which names stand twice.
Does not know: which parameters there are. Never raises on what a client sent.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, unquote_plus

import orjson

from gateway.core.extract import is_off

#: Clients of some languages write them with a capital.
_WORDS: Final = {"true": True, "false": False}


def parameters_of(query_string: str) -> dict[str, Any]:
    """Each parameter by its name. A value that is JSON counts as what it says, else as text. Of a name that stands
    more than once, the last that is on: no other value of it may hide what the service takes.
    """
    found: dict[str, Any] = {}
    for name, text in parse_qsl(query_string, keep_blank_values=True):
        value = meaning(text)
        if name not in found or is_on(value):
            found[name] = value
    return found


def is_on(value: Any) -> bool:
    """Whether a value switches something on: what counts as off is as for fields of a request."""
    return not is_off(value)


def meaning(text: str) -> Any:
    """What a parameter's text says: JSON, with `true` and `false` in any case; everything else is text."""
    word = _WORDS.get(text.lower())
    if word is not None:
        return word
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def repeated(query_string: str, names: Collection[str], switches: Collection[str] = ()) -> str | None:
    """One of the names that stands twice in a query, or None. Those in `switches` may, if all say on, or all off."""
    seen: dict[str, bool] = {}
    for name, text in parse_qsl(query_string, keep_blank_values=True):
        if name not in names:
            continue
        on = bool(meaning(text))  # as conditions read it
        if name in seen and (name not in switches or seen[name] is not on):
            return name
        seen[name] = on
    return None


def unclear(query_string: str, names: Collection[str], switches: Collection[str] = ()) -> str:
    """Why two services could read these names in a query differently; empty where none could."""
    if not names or not query_string:
        return ""
    if ";" in query_string:  # to some it is an ampersand
        return "write ; as %3B in the query"
    name = repeated(query_string, names, switches)
    return "" if name is None else f"the parameter {name} stands twice"


def without(query_string: str, names: Collection[str]) -> str:
    """The query without these parameters; what is left is as it was sent."""
    if not names:
        return query_string
    return "&".join(part for part in query_string.split("&") if unquote_plus(part.partition("=")[0]) not in names)


def unknown_on(parameters: Mapping[str, Any], known: Collection[str]) -> str | None:
    """The name of a parameter that is switched on but not known, or None. Off is as for fields of a request."""
    for name, value in parameters.items():
        if name not in known and is_on(value):
            return name
    return None
