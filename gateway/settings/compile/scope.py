"""What the compilers share: the problems found so far, and which names there are in all files.

Owns: the look-up of names. Does not know: what is compiled.

The names are read from the data as it is, so that a file with problems of its own makes no others in other files.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.core.pricing import ChargeRule, PriceTable
from gateway.core.upstreams import Upstream
from gateway.settings.metering import Metering
from gateway.settings.problems import Document, Place, Report, nearest
from gateway.settings.products import Models


@dataclass(frozen=True, slots=True, kw_only=True)
class Metered:
    """A compiled meter, where it is written, and whose it is. Prices are checked on these."""

    place: Place
    product: str
    metering: Metering
    models: Models | None

    def model_names(self) -> tuple[str, ...]:
        """Every name of a model in SKUs that may be charged."""
        if self.models is None:
            return ("",)
        return tuple(sorted({*self.models.known.values(), self.models.unknown}))

    def sku_of(self, rule: ChargeRule, model: str) -> str:
        """The SKU that a line charges for a model."""
        return rule.sku.replace("{model}", model)


@dataclass(slots=True, kw_only=True)
class Scope:
    """Everything that is known while compiling. `list_prices` is by version, without any rate card.

    Not `complete`: a file could not be read, so an unknown name may well be in it.
    """

    report: Report
    complete: bool = True
    upstreams: Mapping[str, Upstream] = field(default_factory=dict)
    upstream_names: Collection[str] = ()
    regions: Collection[str] = ()
    products: Collection[str] = ()
    jobs: Mapping[str, Collection[str]] = field(default_factory=dict)  # kind -> its measures
    kinds: Collection[str] = ()
    audio_kinds: frozenset[str] = frozenset()  # those of which is known how long they are
    sockets: Collection[str] = ()  # the products that have sessions
    own_parameters: frozenset[str] = frozenset()  # of queries: what is for us alone, at no service's route
    rate_cards: Collection[str] = ()
    list_prices: Mapping[str, PriceTable] = field(default_factory=dict)
    metered: list[Metered] = field(default_factory=list)

    def known(self, place: Place, name: str, names: Collection[str], what: str, *, at_key: bool = False) -> bool:
        """Whether the name is one of the names; a problem where it is not."""
        if name in names:
            return True
        if not self.complete and (names is self.products or names is self.kinds or names is self.jobs):
            return False
        self.report.add(place, f'unknown {what} "{name}"{nearest(name, names)}', at_key=at_key)
        return False


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def product_names(documents: Iterable[Document]) -> set[str]:
    """The products that the files name."""
    return {name for document in documents if isinstance(name := _dict(document.data).get("product"), str)}


def job_measures(documents: Iterable[Document]) -> dict[str, set[str]]:
    """The jobs that the files name, with their measures."""
    return {
        name: set(_dict(_dict(job).get("usage")))
        for document in documents
        for name, job in _dict(_dict(document.data).get("jobs")).items()
    }


def made_kinds(documents: Iterable[Document]) -> set[str]:
    """The kinds of resources that routes make without a job."""
    made = {kind for _, kind in _routes(documents, "creates") if isinstance(kind, str)}
    return made | {kind for _, kind in _routes(documents, "session") if isinstance(kind, str)}


def audio_kinds(documents: Iterable[Document]) -> set[str]:
    """The kinds of resources that are audio which passed by."""
    return {
        kind
        for document in documents
        for route in _list(_dict(document.data).get("routes"))
        if (made := _dict(_dict(route).get("creates"))).get("audio") and isinstance(kind := made.get("resource"), str)
    }


def products_with_sockets(documents: Iterable[Document]) -> set[str]:
    """The products that have sessions."""
    return {product for product, _ in _routes(documents, "session")}


def _routes(documents: Iterable[Document], key: str) -> Iterator[tuple[str, Any]]:
    """The product of each route that has this key, and the kind of resource that stands there."""
    for document in documents:
        for route in _list(_dict(document.data).get("routes")):
            if key in _dict(route):
                yield str(document.data.get("product")), _dict(route[key]).get("resource")


def names_below(document: Document | None, name: str) -> set[str]:
    """The keys of a mapping of a file."""
    return set(_dict(_dict(document.data).get(name))) if document is not None else set()
