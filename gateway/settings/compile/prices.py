"""Price lists and rate cards, as the tables that charges are made by.

Owns: inheritance between versions, which discount is the most specific, that every charge has a price.
Does not know: accounts, the time of day.
"""

from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Final

from gateway.core.pricing import Price, PriceTable, make_price
from gateway.settings.compile.scope import Metered, Scope
from gateway.settings.compile.steps import check_steps, step_key, steps_of
from gateway.settings.plans import PriceBook
from gateway.settings.problems import Place, nearest
from gateway.settings.schema.plans import PricesSettings, RateCardSettings

#: SKU -> (how the unit is written, the price), as in effect in one version
_Listed = dict[str, tuple[str, str]]

#: How alike a SKU is to another one that it is meant for: one letter of ten is wrong at most.
_MISSPELT: Final = 0.9

#: The end of a measure's name says its unit.
_UNITS: Final = {
    "seconds": "second",
    "ms": "millisecond",
    "milliseconds": "millisecond",
    "tokens": "token",
    "characters": "character",
    "calls": "call",
}


def compile_prices(settings: PricesSettings, place: Place, owners: Mapping[str, set[str]], scope: Scope) -> PriceBook:
    """Every table. `owners`: SKU -> the products that charge it. Puts the undiscounted tables into the scope."""
    if settings.currency != "USD":
        scope.report.add(place.at("currency"), "amounts are US dollars: the only currency is USD")
    versions = _versions(settings, place, scope)
    skus = {sku for listed in versions.values() for sku in listed}
    for name, card in settings.rate_cards.items():
        where = place.at("rate_cards", name)
        _check_card(card, where, skus, versions, owners, scope)
        check_steps(card, where.at("steps"), list(_tables(name, versions, card, owners)), scope)
        if scope.report.has_below(where.at("steps")):
            card.steps.clear()  # told already; the rest is compiled to tell what else there is
    scope.list_prices = {
        version: _table(version, "", listed, RateCardSettings(), owners) for version, listed in versions.items()
    }
    return PriceBook(
        starts=tuple(price_list.effective_from.timestamp() for price_list in settings.price_lists),
        versions=tuple(price_list.version for price_list in settings.price_lists),
        tables={
            (version, name): _table(version, name, listed, card, owners)
            for version, listed in versions.items()
            for name, card in settings.rate_cards.items()
        },
    )


def _versions(settings: PricesSettings, place: Place, scope: Scope) -> dict[str, _Listed]:
    """What each version lists, with what it inherits."""
    versions: dict[str, _Listed] = {}
    listed: _Listed = {}
    previous = None
    for index, price_list in enumerate(settings.price_lists):
        where = place.at("price_lists", index)
        if price_list.version in versions:
            scope.report.add(where.at("version"), f'there is another price list of version "{price_list.version}"')
        if previous is not None and price_list.effective_from <= previous:
            message = "price lists go from the oldest to the newest: this one is not later than the one before"
            scope.report.add(where.at("effective_from"), message)
        previous = price_list.effective_from
        for sku, price in price_list.prices.items():
            if "{" in sku:
                scope.report.add(where.at("prices", sku), "a price is for one SKU: write the model's name", at_key=True)
            ((per, text),) = price.written.items()
            before = listed.get(sku)
            if before is not None and _unit(before[0]) != _unit(per):
                message = f"this SKU was priced by the {_unit(before[0])}: calls under way could not be charged"
                scope.report.add(where.at("prices", sku), message, at_key=True)
            listed = {**listed, sku: (per, text)}
        versions[price_list.version] = listed
    return versions


def _unit(per: str) -> str:
    return make_price("", per, "0").unit


def _table(
    version: str, name: str, listed: _Listed, card: RateCardSettings, owners: Mapping[str, set[str]]
) -> PriceTable:
    prices: dict[str, Price] = {}
    for sku, (per, text) in listed.items():
        override = card.overrides.get(sku)
        if override is not None:
            ((per, text),) = override.written.items()
            prices[sku] = make_price(sku, per, text)
        else:
            prices[sku] = make_price(sku, per, text, discount_of(card.discounts, sku, owners.get(sku, ())))
    steps = {sku: steps_of(card, price) for sku, price in prices.items() if step_key(card, sku) is not None}
    return PriceTable(version=version, rate_card=name, prices=prices, steps=steps)


def _tables(
    name: str, versions: Mapping[str, _Listed], card: RateCardSettings, owners: Mapping[str, set[str]]
) -> Iterable[PriceTable]:
    """The card's tables without its steps, in every version."""
    plain = card.model_copy(update={"steps": {}})
    return (_table(version, name, listed, plain, owners) for version, listed in versions.items())


def discount_of(discounts: Mapping[str, str], sku: str, products: Iterable[str]) -> str:
    """The percent of the most specific key: the SKU, then the longest prefix, then a product, then `*`."""
    if sku in discounts:
        return discounts[sku]
    prefixes = [key for key in discounts if key.endswith("*") and key != "*" and sku.startswith(key[:-1])]
    if prefixes:
        return discounts[max(prefixes, key=len)]
    for product in sorted(products):
        if product in discounts:
            return discounts[product]
    return discounts.get("*", "0")


def _check_card(
    card: RateCardSettings,
    place: Place,
    skus: set[str],
    versions: Mapping[str, _Listed],
    owners: Mapping[str, set[str]],
    scope: Scope,
) -> None:
    for key in card.discounts:
        where = place.at("discounts", key)
        if key.endswith("*"):
            if not any(sku.startswith(key[:-1]) for sku in skus):
                scope.report.add(where, f'no SKU starts with "{key[:-1]}"{nearest(key[:-1], skus)}', at_key=True)
        elif key not in skus and key not in scope.products:
            near = nearest(key, {*skus, *scope.products})
            scope.report.add(where, f'"{key}" is no SKU, prefix with a *, or product{near}', at_key=True)
    for sku, products in owners.items():
        named = {product for product in products if product in card.discounts}
        if len({card.discounts[product] for product in named}) > 1 and sku not in card.discounts:
            message = (
                f"{sku} is charged by {' and '.join(sorted(named))}, whose discounts differ: give it one of its own"
            )
            scope.report.add(place.at("discounts"), message, at_key=True)
    for sku, override in card.overrides.items():
        where = place.at("overrides", sku)
        if not scope.known(where, sku, skus, "SKU", at_key=True):
            continue
        ((per, _),) = override.written.items()
        listed = next(listed[sku][0] for listed in versions.values() if sku in listed)
        if _unit(per) != _unit(listed):
            scope.report.add(where, f"the price list prices this SKU by the {_unit(listed)} ({listed})", at_key=True)


# ---- every charge has a price, and every price a charge


def check_spelling(settings: PricesSettings, place: Place, owners: Mapping[str, Collection[str]], scope: Scope) -> None:
    """No SKU that is priced is almost one that is charged, which would then cost something else, and nobody were told.

    Others that no charge has are let be: models that are not sold any more, or not yet, products of another config;
    what stands beside the price that it is almost the name of (`input`, where nothing charges `output`); and what an
    earlier list has named, which goes on from there.
    """
    rules = [rule for meter in scope.metered for rule in meter.metering.rules]
    written = {sku for rule in rules for sku in (rule.sku, rule.fallback_sku) if sku is not None}
    models = [(start, end) for start, model, end in (sku.partition("{model}") for sku in written) if model]
    known = set(owners)
    for index, price_list in enumerate(settings.price_lists):
        for sku in price_list.prices:
            if sku in known or any(sku.startswith(start) and sku.endswith(end) for start, end in models):
                continue
            near = get_close_matches(sku, owners.keys() - price_list.prices.keys(), n=1, cutoff=_MISSPELT)
            if near:
                message = f'no charge has this SKU; did you mean "{near[0]}"?'
                scope.report.add(place.at("price_lists", index, "prices", sku), message, at_key=True)
        known |= price_list.prices.keys()


def owners_of(metered: Iterable[Metered]) -> dict[str, set[str]]:
    """SKU -> the products that charge it; an add-on is its own product's, wherever it is switched on."""
    owners: dict[str, set[str]] = {}
    for meter in metered:
        for rule in meter.metering.rules:
            for model in meter.model_names():
                for sku in (rule.sku, rule.fallback_sku):
                    if sku is not None:
                        owners.setdefault(sku.replace("{model}", model), set()).add(rule.part_of or meter.product)
    return owners


def check_priced(scope: Scope) -> None:
    """Every line of every meter has a price, in its measure's unit, for every model, in every version."""
    for meter in scope.metered:
        for index, rule in enumerate(meter.metering.rules):
            where = meter.place.at("charges", index)
            if scope.report.has_below(where.at("sku")):
                continue
            gaps: dict[str, None] = {}
            units: set[str] = set()
            known: set[str] = set()
            for version, table in scope.list_prices.items():
                known |= table.prices.keys()
                for model in meter.model_names():
                    if (rule.only_models and model not in rule.only_models) or model in rule.not_models:
                        continue
                    price = rule.price(table, model)
                    if price is not None:
                        units.add(price.unit)
                    elif meter.sku_of(rule, model) not in gaps:
                        gaps[meter.sku_of(rule, model)] = None
                        near = nearest(meter.sku_of(rule, model), known)
                        near = near if "did you mean" in near else ": add it to the price list"
                        message = f'"{meter.sku_of(rule, model)}" has no price in version {version}{near}'
                        scope.report.add(where.at("sku"), message)
            _check_unit(rule.quantity, units, where, scope)


def _check_unit(quantity: str, units: set[str], place: Place, scope: Scope) -> None:
    measured = _UNITS.get(quantity.rpartition("_")[2])
    for unit in sorted(units):
        if measured is not None and unit not in (measured, "unit"):
            message = f"{quantity} is counted in {measured}s, and the SKU is priced by the {unit}"
            scope.report.add(place.at("quantity"), message)
