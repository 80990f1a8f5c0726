"""The terms of a call: what the settings say of one plan's calls to one route, for one set of models.

Owns: tiers, rates, places, rate cards and names of prices, found once for all calls that have them alike.
Does not know: requests, the ledger.
"""

from dataclasses import replace
from typing import Literal

from gateway.core.admission import Concurrency, Rate
from gateway.core.money import ZERO, Nanos
from gateway.core.record import record
from gateway.pipeline.entitlement import entitled, entitled_to_add_ons, has_add_ons
from gateway.ports import AdmissionTerms, Observer, Plan
from gateway.settings.overriding import tier_of
from gateway.settings.plans import Tier, TierProduct
from gateway.settings.routes import Route
from gateway.settings.runtime import Runtime

#: Routes x plans x sets of models, and what accounts have in place of plans: those of all others are found anew.
_TERMS_MAX = 10_000
#: Which rates count a request: all of its route's, those that hold for whatever is asked, or none.
Counted = Literal["all", "common", "none"]


@record
class Terms:
    """What the settings say of one plan's calls to one route for one set of models.

    `asked` is what the ledger was asked by them: for each version of prices, whether it was metered, which rates
    counted it, and which add-ons it had of those that the config knows.
    """

    tier: Tier | None
    rate_card: str
    entitled: bool
    has_add_ons: bool  # the route has add-ons that are another product's
    overdraft: Nanos
    rates: tuple[Rate, ...]
    concurrency: Concurrency | None
    price_names: tuple[str, ...]
    asked: dict[tuple[str, bool, Counted, tuple[str, ...]], AdmissionTerms]


class KnownTerms:
    """The terms that were asked for before, and how others are found."""

    def __init__(self, runtime: Runtime, observer: Observer, lease_seconds: int) -> None:
        self._lease_seconds = lease_seconds
        self._tiers = runtime.tiers
        self._default_card = runtime.tiers[runtime.default_tier].rate_card
        self._prices = runtime.prices
        self._observer = observer
        self._known: dict[tuple[str, str, str, str, tuple[str, ...]], Terms] = {}

    def of(self, route: Route, plan: Plan, models: tuple[str, ...]) -> Terms:
        """What the settings say of a plan's call to a route for these models."""
        key = (route.name, plan.tier, plan.rate_card, plan.overrides, models)
        terms = self._known.get(key)
        if terms is None:
            terms = self._make(route, plan, models)
            known = route.product.models is None or all(model in route.product.models.known for model in models)
            if known:
                if len(self._known) >= _TERMS_MAX:
                    self._known.clear()
                self._known[key] = terms
        return terms

    def _make(self, route: Route, plan: Plan, models: tuple[str, ...]) -> Terms:
        tier = tier_of(self._tiers, plan)
        share = tier.products.get(route.product.name) if tier is not None else None
        known = route.product.models.known if route.product.models is not None else {}
        return Terms(
            tier=tier,
            rate_card=self._rate_card(plan, tier),
            entitled=entitled(route, tier, models if route.metered else ()),
            has_add_ons=has_add_ons(route),
            overdraft=tier.overdraft if tier is not None else ZERO,
            rates=rates_of(tier, route, tuple(model for model in models if model in known)),
            concurrency=_places(share, route),
            price_names=tuple({known[model] for model in models if model in known}) or ("",),
            asked={},
        )

    def asking(
        self, route: Route, plan: Plan, terms: Terms, version: str, metered: bool, counted: Counted,  # noqa: FBT001
        add_ons: tuple[str, ...],
    ) -> AdmissionTerms:  # fmt: skip
        """What the ledger is asked by these terms of the same plan and route, made once."""
        rates = {"all": terms.rates, "common": common_rates(terms.tier), "none": ()}[counted]
        asked = terms.asked[version, metered, counted, add_ons] = AdmissionTerms(
            plan=plan,
            product=route.product.name,
            entitled=terms.entitled and entitled_to_add_ons(terms.tier, add_ons),
            metered=metered,
            overdraft=terms.overdraft,
            covers_estimate=route.covers_estimate,
            rates=rates,
            concurrency=terms.concurrency,
            lease_seconds=self._lease_seconds,
            price_version=version,
            add_ons=add_ons,
        )
        return asked

    def _rate_card(self, plan: Plan, tier: Tier | None) -> str:
        """Whose prices: the account's own rate card, its tier's, or the default tier's."""
        default = self._default_card
        card = plan.rate_card or (tier.rate_card if tier is not None else default)
        if (self._prices.versions[0], card) not in self._prices.tables:
            self._observer.event("rate_card_unknown")
            card = default
        return card


def _places(share: TierProduct | None, route: Route) -> Concurrency | None:
    """The limit of a route's calls at a time. Only jobs can wait in a queue."""
    limit = share.concurrency if share is not None else None
    return limit if limit is None or route.job is not None else replace(limit, queued_max=0, when_negative=0)


def common_rates(tier: Tier | None) -> tuple[Rate, ...]:
    """The rates that hold for whatever is asked, also for what cannot be served."""
    return () if tier is None else (*tier.rates, *tier.per_key)


def rates_of(tier: Tier | None, route: Route, models: tuple[str, ...]) -> tuple[Rate, ...]:
    """The rates that hold for a call to a route, of these models."""
    if tier is None:
        return ()
    share, of_all = tier.products.get(route.product.name), common_rates(tier)
    if share is None or not route.metered:
        return of_all
    if not share.per_model:
        return (*of_all, *share.rates)
    named = tuple(replace(rate, name=f"{rate.name}-{model}") for rate in share.per_model for model in models[:1])
    return (*of_all, *share.rates, *named)
