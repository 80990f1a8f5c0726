"""Whether a plan includes what a call asks for, and what is said where it does not.

Owns: products, models and add-ons of a plan against those of a call; whose lack it is, and which plans have it.
Does not know: the ledger (which knows what a key includes), prices.
"""

from collections.abc import Collection, Mapping, Sequence

from gateway.core.errors import Code, Refused
from gateway.core.extract import Sources
from gateway.pipeline.call import Call
from gateway.pipeline.pricing import metering_of
from gateway.settings.plans import Tier
from gateway.settings.products import Product
from gateway.settings.routes import Route
from gateway.settings.runtime import Runtime


def entitled(route: Route, tier: Tier | None, models: tuple[str, ...]) -> bool:
    """Whether the tier includes the product and every model asked for."""
    if tier is None or (share := tier.products.get(route.product.name)) is None:
        return False
    return share.models is None or share.models.issuperset(models)


def has_add_ons(route: Route) -> bool:
    """Whether the route has add-ons that are another product's, or refuses some as such."""
    metering = metering_of(route)
    rules = metering.rules if metering is not None else ()
    return any(rule.part_of is not None for rule in rules) or any(each.part_of is not None for each in route.rejections)


def entitled_to_add_ons(tier: Tier | None, add_ons: Collection[str]) -> bool:
    """Whether the tier includes all products of the add-ons that a request switches on."""
    return tier is None or tier.products.keys() >= {*add_ons}


def add_ons_of(route: Route, sources: Sources) -> tuple[str, ...]:
    """The other products of which the request uses something."""
    metering = metering_of(route)
    rules = metering.rules if metering is not None else ()
    used = [rule.part_of for rule in rules if rule.part_of is not None and rule.applies(sources, "")]
    used += [each.part_of for each in route.rejections if each.part_of is not None and each.meets(sources)]
    return tuple(dict.fromkeys(used))


def not_entitled(call: Call, models: tuple[str, ...], runtime: Runtime) -> Refused:
    """The refusal of a call whose plan, or whose key, does not include what it asks for, and who has it."""
    product, tier = call.route.product, call.tier
    which = ""
    if tier is not None and entitled(call.route, tier, models if call.route.metered else ()):
        # It is an add-on that the tier (or else the key) does not have.
        add_ons = add_ons_of(call.route, call.sources)
        missing = next((name for name in add_ons if name not in tier.products), "")
        if not missing:
            return Refused(code=Code.NOT_ENTITLED, details=_of_key(product, add_ons, runtime.products, tier))
        product, models = runtime.products.get(missing, product), ()
    elif tier is not None and (share := tier.products.get(product.name)) is not None:
        which = f" with {', '.join(model for model in models if model not in (share.models or models))}"
    tiers = runtime.tiers if tier is None else {**runtime.tiers, tier.name: tier}
    having = [
        each.title
        for each in tiers.values()
        if (share := each.products.get(product.name)) is not None
        and (share.models is None or share.models.issuperset(models))
    ]
    title = tier.title if tier is not None else "unknown"
    entitled_tiers = ", ".join(having) or "no plan"
    details = {
        "holder": f"Your plan ({title})",
        "product": product.title + which,
        "remedy": f"It is included in: {entitled_tiers}.",
        "tier": title,
        "entitled_tiers": entitled_tiers,
    }
    return Refused(code=Code.NOT_ENTITLED, details=details)


def _of_key(product: Product, add_ons: Sequence[str], products: Mapping[str, Product], tier: Tier) -> dict[str, str]:
    """What is said where the plan includes all of it: the key's own list of products does not."""
    titles = [product.title, *(products[name].title for name in add_ons if name in products)]
    return {
        "holder": "This API key",
        "product": titles[0] if len(titles) == 1 else f"all of {', '.join(titles)}",
        "remedy": "Use another key, or have it added to the products of this one.",
        "tier": tier.title,
        "entitled_tiers": tier.title,
    }
