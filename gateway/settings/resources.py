"""What routes have to do with what accounts own, compiled: what is required, made and listed.

Owns: the shape of it. Does not know: YAML, or whose anything is (ledger).
"""

from dataclasses import dataclass

from gateway.core.extract import Field


@dataclass(frozen=True, slots=True, kw_only=True)
class Injection:
    """Text of a job that the service puts where a request has the `tag`: so many bytes for each unit of a measure."""

    tag: str
    measure: str
    bytes_per_unit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """A resource that must belong to the caller. Where the field is absent or null, nothing is required.

    With `prefixes`, only values that start with one of them name a resource; others are no business of ours."""

    kind: str
    field: Field
    prefixes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Creation:
    """A resource that a successful reply names, without a charge of its own (an upload). 0: kept for good.

    `audio`: the request's body is audio, of which is kept how long it is.
    """

    kind: str
    field: Field
    keep_seconds: int
    audio: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A list of which a caller sees only its own items: pages of the upstream are read until the page is full.

    `items` is the list in the reply, `id` the item's id, `url` its field with its URL, which is rebuilt. `limit`,
    `before` and `after` are the query parameters of paging; without `limit` all items are shown, without `before` there
    is one page; `day` asks for the items of a day. `count` is the field that says how many items the page has,
    `shown_limit` the one that repeats the limit. `older` holds the URL that leads on; `current` and `newer` are rebuilt
    or nulled. `pages_max` bounds the upstream pages read for one call.
    """

    kind: str
    items: Field
    id: str
    url: str | None
    limit: str | None
    limit_default: int
    limit_max: int
    before: str | None
    after: str | None
    day: str | None
    count: Field | None
    shown_limit: Field | None
    current: Field | None
    older: Field | None
    newer: Field | None
    pages_max: int

    @property
    def anchors(self) -> tuple[str, ...]:
        """The query parameters that name an item to page on from."""
        return tuple(name for name in (self.before, self.after) if name is not None)
