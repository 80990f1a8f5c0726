"""An account's own plan: its tier, with what the account has in place of it.

Owns: what each override does to a tier. Does not know: how overrides are named and written (core.overrides), who has
them.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from gateway.core import monthly
from gateway.core.admission import KEY_RATE, Concurrency, Rate, Scaling
from gateway.core.money import Nanos
from gateway.core.monthly import MonthlyGrant
from gateway.core.overrides import NONE, YES, read
from gateway.ports import Plan
from gateway.settings.plans import Tier, TierProduct

#: The rate of all requests of an account; those of products are named after them, and KEY_RATE is each key's own.
ACCOUNT_RATE: Final = "account"


def tier_of(tiers: Mapping[str, Tier], plan: Plan) -> Tier | None:
    """What a plan gives; None where the config has no such tier."""
    tier = tiers.get(plan.tier)
    return tier if tier is None or not plan.overrides else overridden(tier, plan.overrides)


def overridden(tier: Tier, overrides: str) -> Tier:
    """The tier, with what stands in place of it."""
    of_account: dict[str, str] = {}
    of_products: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for name, value in read(overrides).items():
        product, _, limit = name.rpartition(".")
        (of_products[product] if product else of_account)[limit] = value
    products = dict(tier.products)
    for product, its in of_products.items():
        share = products.pop(product, None)
        if its.get("included", YES if share is not None else "no") == YES:
            products[product] = _share(product, share or TierProduct(), its)
    requests, of_key = of_account.get("requests"), of_account.get("requests_per_key")
    return replace(
        tier,
        overdraft=Nanos(int(of_account["overdraft"])) if "overdraft" in of_account else tier.overdraft,
        monthly_grant=_given(of_account["monthly_grant"]) if "monthly_grant" in of_account else tier.monthly_grant,
        rates=tier.rates if requests is None else _rates(ACCOUNT_RATE, requests),
        per_key=tier.per_key if of_key is None else _rates(KEY_RATE, of_key),
        products=products,
        region=of_account.get("region", ""),
    )


def _given(grant: str) -> MonthlyGrant | None:
    return None if grant == NONE else monthly.read(grant)


def _share(product: str, share: TierProduct, its: Mapping[str, str]) -> TierProduct:
    models = its.get("models")
    if models is not None:
        share = replace(share, models=None if models == "all" else frozenset(models.split(",")))
    if (requests := its.get("requests")) is not None:
        scaling = next((rate.scaling for rate in (*share.rates, *share.per_model)), None)
        rates = _rates(product, requests, scaling)
        share = replace(share, per_model=rates) if share.per_model else replace(share, rates=rates)
    return replace(share, concurrency=_concurrency(product, share.concurrency, its))


def _concurrency(product: str, limit: Concurrency | None, its: Mapping[str, str]) -> Concurrency | None:
    """The places. Without a limit of them nothing waits, and nothing is said of accounts without credit."""
    places = its.get("concurrency", NONE if limit is None else str(limit.limit))
    if places == NONE:
        return None
    queued_max, when_negative = (0, 0) if limit is None else (limit.queued_max, limit.when_negative)
    return Concurrency(
        name=product,
        limit=int(places),
        queued_max=int(its.get("queued_max", queued_max)),
        when_negative=int(its.get("when_negative", when_negative)),
    )


def _rates(name: str, requests: str, scaling: Scaling | None = None) -> tuple[Rate, ...]:
    """A quota in place of the plan's, which follows its use as the plan's does."""
    if requests == NONE:
        return ()
    quota, window_seconds = map(int, requests.split("/"))
    if scaling is not None:
        scaling = replace(scaling, quota_max=max(quota, scaling.quota_max))
    return (Rate(name=name, quota=quota, window_seconds=window_seconds, scaling=scaling),)
