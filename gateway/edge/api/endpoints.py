"""Routes of our own APIs as data: what each takes, who may use it, what it does and answers.

Owns: the form of a table of routes; how a request is taken apart for one of them, and its answer written.
Does not know: which routes there are, who calls (the API says), how problems look, how a table is printed (openapi).
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, TypeVar

import orjson
from aiohttp import web

from gateway.core.errors import Code
from gateway.edge.operations.accounts import NAMESPACE, Operation, operation
from gateway.edge.operations.bodies import (
    PAGE_ITEMS_DEFAULT,
    PAGE_ITEMS_MAX,
    Body,
    Invalid,
    Problem,
    Setting,
    read_body,
    read_idempotency_key,
    read_page,
)
from gateway.edge.operations.views import Data

BODY_BYTES_MAX: Final = 65_536
Desk_contra = TypeVar("Desk_contra", contravariant=True)
Model = TypeVar("Model", bound=Body)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One thing that a route reads of the query: its JSON schema, and what it means."""

    name: str
    schema: Mapping[str, Any]
    meaning: str


def choice(name: str, first: str, *others: str, meaning: str) -> Parameter:
    """A parameter that is one of these words; the first where it is not given."""
    return Parameter(name, {"enum": [first, *others], "default": first}, meaning)


AFTER: Final = Parameter("after", {"type": "string", "maxLength": 200}, "Begin after this: `next` of the page before")
LIMIT: Final = Parameter(
    "limit",
    {"type": "integer", "minimum": 1, "maximum": PAGE_ITEMS_MAX, "default": PAGE_ITEMS_DEFAULT},
    "At most so many items",
)
PAGE: Final = (AFTER, LIMIT)
FORMAT: Final = choice("format", "json", "csv", meaning="How it is answered; `Accept: text/csv` asks for CSV too")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A request, taken apart. `account` is the one that it is about ("" where it is about none)."""

    actor: str
    account: str
    parts: Mapping[str, str]  # of the path
    query: Mapping[str, str]
    operation: Operation
    given: Body | None = None

    def body(self, model: type[Model]) -> Model:
        """The body, which is the route's model."""
        assert isinstance(self.given, model), "a route reads the body that its table says"
        return self.given

    @property
    def page(self) -> tuple[str, int]:
        """Where a page begins and how many items it has. Raises Invalid."""
        return read_page(self.query.get("after", ""), self.query.get("limit", str(PAGE_ITEMS_DEFAULT)))

    def choice(self, parameter: Parameter) -> str:
        """The word that was chosen. Raises Invalid."""
        words = parameter.schema["enum"]
        word = self.query.get(parameter.name, words[0])
        if word not in words:
            raise Invalid([Problem(parameter.name, f"it is one of: {', '.join(words)}")])
        return str(word)


@dataclass(frozen=True, slots=True)
class Text:
    """An answer that is no JSON."""

    text: str
    content_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint(Generic[Desk_contra]):
    """One route. `answer` names the schema of what it answers; `scope` is what a caller must be allowed ("": nothing).

    `problems` are those that this route has beside what all have. `names_itself`: what it changes has an id by which it
    is done once; a caller's name for it is no operation of the ledger (naming keeps it to one request).
    """

    method: str
    path: str  # below the API's own
    scope: str = ""
    summary: str
    deed: Callable[[Desk_contra, Ask], Awaitable[Data | Text]]
    answer: str
    body: type[Body] | None = None
    names_itself: bool = False
    status: int = 200
    query: tuple[Parameter, ...] = ()
    problems: tuple[str, ...] = ()
    refusals: tuple[Code, ...] = ()  # for which the call that it is about may be refused

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that it is asked by: whoever may read it may ask for its head."""
        return ("GET", "HEAD") if self.method == "GET" else (self.method,)

    @property
    def changes(self) -> bool:
        """Whether it may change something: then it takes an Idempotency-Key."""
        return self.method != "GET"


async def ask_of(
    request: web.Request,
    endpoint: Endpoint[Any],
    *,
    actor: str,
    account: str,
    setting: Callable[[], Setting],
    namespace: str = NAMESPACE,
) -> Ask:
    """The request, taken apart for its route. Raises Invalid."""
    key = request.headers.get("Idempotency-Key")
    named = operation(None if key is None else read_idempotency_key(key), namespace)
    return Ask(
        actor=actor,
        account=account,
        parts=dict(request.match_info),
        query=_query(request, endpoint),
        operation=named,
        given=None if endpoint.body is None else await _given(request, endpoint.body, setting(), named),
    )


async def _given(request: web.Request, model: type[Body], setting: Setting, named: Operation) -> Body:
    """The body. One that has to say nothing may be left out."""
    raw = await _read(request)
    return read_body(model, raw or (b"{}" if model.may_be_left_out() else raw), replace(setting, named=named.named))


def answer_of(found: Data | Text, status: int = 200) -> web.Response:
    """What was found, as an HTTP answer."""
    body, content_type = orjson.dumps(found) if not isinstance(found, Text) else found.text.encode(), "application/json"
    if isinstance(found, Text):
        content_type = found.content_type
    return web.Response(status=status, body=body, content_type=content_type, headers={"Cache-Control": "no-store"})


def _query(request: web.Request, endpoint: Endpoint[Any]) -> Mapping[str, str]:
    """The query; it asks for CSV where the client accepts that and did not say otherwise."""
    accepts = request.headers.get("Accept", "")
    if FORMAT not in endpoint.query or FORMAT.name in request.query or "text/csv" not in accepts:
        return request.query
    return {**request.query, FORMAT.name: "csv"}


async def _read(request: web.Request) -> bytes:
    """The body, within its bound, whatever the listener's own bound is."""
    body = bytearray()
    async for chunk in request.content.iter_chunked(BODY_BYTES_MAX):
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise web.HTTPRequestEntityTooLarge(max_size=BODY_BYTES_MAX, actual_size=len(body))
    return bytes(body)
