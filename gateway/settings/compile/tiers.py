"""Tiers: what each plan gives.

Owns: the names of rates and of concurrency classes. Does not know: accounts.
"""

from collections.abc import Collection, Mapping

from gateway.core.admission import KEY_RATE, Concurrency, Rate, Scaling
from gateway.core.monthly import MonthlyGrant, days_of
from gateway.settings.compile.samples import unknown_models
from gateway.settings.compile.scope import Scope
from gateway.settings.overriding import ACCOUNT_RATE
from gateway.settings.plans import Tier, TierProduct
from gateway.settings.problems import Place
from gateway.settings.products import Product
from gateway.settings.schema.plans import (
    ProductRequestsSettings,
    RequestsSettings,
    TierProductSettings,
    TierSettings,
    TiersSettings,
)


def compile_tiers(
    settings: TiersSettings, place: Place, products: Mapping[str, Product], scope: Scope
) -> dict[str, Tier]:
    """Every tier, by name. `products`: those that could be compiled."""
    scope.known(place.at("default_tier"), settings.default_tier, settings.tiers, "tier")
    return {name: _tier(name, tier, place.at("tiers", name), products, scope) for name, tier in settings.tiers.items()}


def _tier(name: str, settings: TierSettings, place: Place, products: Mapping[str, Product], scope: Scope) -> Tier:
    if scope.rate_cards:
        scope.known(place.at("rate_card"), settings.rate_card, scope.rate_cards, "rate card")
    shares: dict[str, TierProduct] = {}
    for product, share in settings.products.items():
        where = place.at("products", product)
        if scope.known(where, product, scope.products, "product", at_key=True) and product in products:
            shares[product] = _share(product, share, where, products[product], scope)
    given = settings.monthly_grant
    return Tier(
        name=name,
        title=settings.title,
        signup_grant=settings.signup_grant,
        monthly_grant=None if given is None else MonthlyGrant(amount=given.amount, days=days_of(given.expires_after)),
        rate_card=settings.rate_card,
        overdraft=settings.overdraft,
        rates=_of_all(ACCOUNT_RATE, settings.requests),
        per_key=_of_all(KEY_RATE, settings.requests_per_key),
        products=shares,
    )


def _of_all(name: str, requests: RequestsSettings | None) -> tuple[Rate, ...]:
    if requests is None:
        return ()
    return (Rate(name=name, quota=requests.quota, window_seconds=requests.window_seconds),)


def _share(name: str, settings: TierProductSettings, place: Place, product: Product, scope: Scope) -> TierProduct:
    if settings.models is not None:
        unknown_models(settings.models, product.models, place.at("models"), scope)
    rates: tuple[Rate, ...] = ()
    requests = settings.requests
    if requests is not None:
        if name in (ACCOUNT_RATE, KEY_RATE):
            scope.report.add(
                place.at("requests"),
                f"the limit of a product is called like it, and {name} has the name of another limit",
            )
        if requests.per_model and product.models is None:
            scope.report.add(place.at("requests", "per_model"), f"{name} has no models to count by")
        scaling = None if requests.scaling is None else _scaling(requests, place.at("requests", "scaling"), scope)
        rates = (Rate(name=name, quota=requests.quota, window_seconds=requests.window_seconds, scaling=scaling),)
    per_model = requests is not None and requests.per_model
    return TierProduct(
        models=None if settings.models is None else frozenset(settings.models),
        concurrency=_concurrency(name, settings, place, product, scope),
        rates=() if per_model else rates,
        per_model=rates if per_model else (),
    )


def _concurrency(
    name: str, settings: TierProductSettings, place: Place, product: Product, scope: Scope
) -> Concurrency | None:
    negative = settings.when_negative.concurrency
    for key, value in (("queued_max", settings.queued_max), ("when_negative", negative)):
        if value and settings.concurrency is None:
            scope.report.add(place.at(key), "there is no concurrency that it could go with")
        elif value and not product.queues:
            scope.report.add(place.at(key), f"{name} has no jobs with a queue")
    if settings.concurrency is None:
        return None
    return Concurrency(name=name, limit=settings.concurrency, queued_max=settings.queued_max, when_negative=negative)


def _scaling(requests: ProductRequestsSettings, place: Place, scope: Scope) -> Scaling:
    scaling = requests.scaling
    assert scaling is not None, "only a quota that scales is asked for its scaling"
    if scaling.quota_max < requests.quota:
        scope.report.add(place.at("quota_max"), f"this is less than the quota of {requests.quota}")
    if scaling.shrink_below_percent > scaling.grow_at_percent:
        message = f"a quota cannot shrink and grow: at most grow_at_percent ({scaling.grow_at_percent})"
        scope.report.add(place.at("shrink_below_percent"), message)
    return Scaling(**dict(scaling))


def products_given(settings: TiersSettings) -> Collection[str]:
    """The products that some tier includes."""
    return {product for tier in settings.tiers.values() for product in tier.products}
