"""Products, but for their jobs (`jobs`) and routes (`routes`), which come after.

Owns: what is said of a product as a whole.
Does not know: prices, tiers.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from gateway.core.money import ZERO, Nanos
from gateway.core.pricing import Condition
from gateway.core.upstreams import Upstream
from gateway.settings.compile.errors import compile_errors
from gateway.settings.compile.metering import Reading, compile_condition
from gateway.settings.compile.scope import Scope
from gateway.settings.jobs import Job
from gateway.settings.problems import Place
from gateway.settings.products import NO_UPSTREAM, Models, Product, WithoutLedger
from gateway.settings.routes import Route
from gateway.settings.schema.product import LedgerAwaySettings, ProductSettings

#: So many accounts may reach their bound without the ledger, unless the config says how much that is in all.
_ACCOUNTS_AT_ONCE: Final = 100


@dataclass(slots=True, kw_only=True)
class Made:
    """A compiled product with the places of its routes and jobs, for what is checked later."""

    settings: ProductSettings
    place: Place
    product: Product
    jobs: dict[str, Job] = field(default_factory=dict)
    routes: list[tuple[Route, Place]] = field(default_factory=list)


def compile_product(settings: ProductSettings, place: Place, scope: Scope) -> Made:
    """The product; jobs and routes come after, and routes need the jobs of every product."""
    errors = compile_errors(settings.errors, place.at("errors"), scope)
    models = _models(settings, place, scope)
    upstream = NO_UPSTREAM
    if settings.upstream is not None:
        scope.known(place.at("upstream"), settings.upstream, scope.upstream_names, "upstream")
        nowhere = Upstream(name=settings.upstream, base_url="", credential="")  # only to find the other problems
        upstream = scope.upstreams.get(settings.upstream, nowhere)
    product = Product(
        name=settings.product,
        title=settings.title,
        upstream=upstream,
        errors=errors,
        models=models,
        strip_reply_fields=tuple(settings.strip_reply_fields),
        metered_body_bytes_max=settings.metered_body_bytes_max,
        whole_body_bytes_max=settings.whole_body_bytes_max,
        drain_seconds_max=settings.drain_seconds_max,
        drain_bytes_max=settings.drain_bytes_max,
        without_ledger=_without_ledger(settings.on_ledger_unavailable, place.at("on_ledger_unavailable"), scope),
        queues=any(job.queue is not None for job in settings.jobs.values()),
        on_unsettled=settings.on_unsettled,
        refuses_us_when=_refuses_us_when(settings, place.at("refuses_us_when"), scope),
        dropped_query=scope.own_parameters,
    )
    return Made(settings=settings, place=place, product=product)


def own_parameters(products: Iterable[ProductSettings]) -> frozenset[str]:
    """The query parameters that are for us: a token that a client sends to the wrong product reaches no service."""
    sessions = (route.session for product in products for route in product.routes)
    return frozenset(name for session in sessions if session for name in session.dropped_parameters)


def _refuses_us_when(settings: ProductSettings, place: Place, scope: Scope) -> Condition | None:
    when = settings.refuses_us_when
    for index, read in enumerate(when.fields if when is not None else ()):
        if read.source == "job":
            scope.report.add(place.at("any", index), f"{read} is not what the service answers: write reply.x")
    return compile_condition(when, place, Reading(of_job=True), scope)


def _without_ledger(settings: LedgerAwaySettings, place: Place, scope: Scope) -> WithoutLedger | None:
    account, in_all = settings.allow_up_to or ZERO, settings.in_all
    if in_all is not None and in_all < account:
        scope.report.add(place.at("in_all"), "is less than `allow_up_to`: no account could reach that")
    if in_all is not None and not account:
        scope.report.add(place.at("in_all"), "bounds nothing without `allow_up_to`")
    if not account:
        return None
    return WithoutLedger(account=account, in_all=Nanos(account * _ACCOUNTS_AT_ONCE) if in_all is None else in_all)


def _models(settings: ProductSettings, place: Place, scope: Scope) -> Models | None:
    models = settings.models
    if models is None:
        return None
    scope.known(place.at("models", "default"), models.default, models.known, "model")
    return Models(
        asked=tuple(models.asked),
        ran=tuple(models.ran),
        default=models.default,
        unknown=models.unknown,
        dated=models.dated,
        known=models.known,
    )
