"""What a call is expected to cost, and what it did cost: the settings applied to what is known of it.

Owns: the order "models, usage, rules, table", and the answer to unknown usage and unknown models.
Does not know: the ledger. Plain functions of values.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, Final

from gateway.core.errors import Code, Refused
from gateway.core.extract import Sources, fields_on, first_reported
from gateway.core.money import BALANCE_MAX, ZERO, Nanos
from gateway.core.parameters import unknown_on
from gateway.core.pricing import Charge, LineItem, PriceTable, Unpriced, amount_for, charge_for
from gateway.core.tariff import tariff
from gateway.core.usage import Usage, estimate_usage, known_usage, read_usage
from gateway.settings.metering import Metering
from gateway.settings.plans import Tier
from gateway.settings.products import Models, Product
from gateway.settings.routes import Route

#: No model, domain or flag has a longer name; a longer text is a customer's content.
_NAME_MAX: Final = 64


#: What stands for a model that is no text: it may be of any size and depth, and is nobody's to repeat.
_NO_MODEL: Final = "(no text)"


def asked_models(models: Models, sources: Sources) -> tuple[str, ...]:
    """Every model that the request names, each once, or the default."""
    request = sources.get("request")
    if type(request) is dict and models.others is not None and models.others.isdisjoint(request):
        model = request.get(models.first)
        if type(model) is str:
            return (model,)
    named: list[Any] = []
    for field in models.asked:
        named += field.read_all(sources)
    return tuple(dict.fromkeys(name if type(name) is str else _NO_MODEL for name in named)) or (models.default,)


def objection(route: Route, sources: Sources, models: tuple[str, ...]) -> Refused | None:
    """What is wrong with the request itself, before anybody's credit is looked at."""
    request = sources.get("request")
    named = route.metered or any(requirement.field.source == "request" for requirement in route.requires)
    if route.body == "json" and named and type(request) is not dict:
        return Refused(code=Code.INVALID_REQUEST, details={"reason": "the body must be a JSON object"})
    if not route.passes_over(request):
        for rejection in route.rejections:
            if rejection.meets(sources):
                return Refused(code=Code.UNSUPPORTED, details={"reason": rejection.message})
    if route.metering is not None and route.metering.counted:
        for measure in route.metering.counted:
            value = first_reported(measure.fields, sources)
            if value is not None and measure.judged(value) is None:
                what = "a list" if measure.count == "items" else "text"
                return Refused(code=Code.INVALID_REQUEST, details={"reason": f"{measure.fields[0]} must be {what}"})
    known = route.product.models.known if route.product.models else {}
    for model in models:
        if model not in known:
            return Refused(code=Code.UNKNOWN_MODEL, details={"model": model[:100], "models": ", ".join(sorted(known))})
    if route.known_parameters is not None:
        name = unknown_on(sources["query"], route.known_parameters)
        if name is not None:
            return Refused(code=Code.UNPRICED_FIELD, details={"field": name[:100]})
    return unpriced(route, request)


def unpriced(route: Route, request: Any) -> Refused | None:
    """Whether a request, or a client's update of a session, switches on what has no price and is not known as free."""
    if route.known_fields is None or (type(request) is dict and request.keys() <= route.free_fields):
        return None
    field = fields_on(request, route.known_fields)
    return None if field is None else Refused(code=Code.UNPRICED_FIELD, details={"field": field[:100]})


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


def metering_of(route: Route) -> Metering | None:
    """How this route's usage is priced: its own way, or its job's."""
    return route.job.metering if route.job is not None else route.metering


def estimate(
    route: Route, sources: Sources, price_names: tuple[str, ...], table: PriceTable, request_bytes: int
) -> Nanos:
    """The hold to ask for, in nano-dollars: fixed, or the dearest of the models asked for at the expected usage."""
    if route.hold is not None:
        return route.hold
    metering = metering_of(route)
    assert metering is not None, f"the metered route {route.name} has no metering"
    dearest = ZERO
    for name in price_names:
        amount: Nanos | Unpriced | None = tariff(metering, table, name).estimate(sources, request_bytes)
        if amount is None:
            usage = estimate_usage(metering.measures, sources, request_bytes)
            amount = amount_for(metering.expected_rules, usage, sources, name, table)
        if not isinstance(amount, Unpriced) and amount > dearest:
            dearest = amount
    return dearest


def ran_model(product: Product, sources: Sources) -> str:
    """The SKU name of the model that ran. One that is not known is charged as the configured unknown, never free."""
    return model_that_ran(product, sources)[0]


def model_that_ran(product: Product, sources: Sources) -> tuple[str, bool]:
    """The same, and whether the settings know it."""
    models = product.models
    return ("", True) if models is None else models.charged_as(first_reported(models.ran, sources))


def price(
    metering: Metering,
    model: str,
    sources: Sources,
    table: PriceTable,
    held: Nanos,
    *,
    request_bytes: int = 0,
    content_bytes: int = 0,
) -> tuple[Charge, Usage] | None:
    """The charge for a success, and the usage behind it. None: the policy for unknown usage charges nothing.

    `model` is the SKU name of the one that ran.

    A charge on unknown usage is the hold, or what is known to have been used if that is less, and marked as estimated:
    of a call that reports none, the bytes of its request and of the content it delivered are known.
    """
    plain = tariff(metering, table, model).charge(sources)
    if plain is not None and plain[0].amount <= BALANCE_MAX:
        return plain
    usage = read_usage(metering.measures, sources)
    if usage.reported:
        charge = charge_for(metering.rules, usage, sources, model, table)
        if isinstance(charge, Unpriced):
            why = f"unpriced {charge.sku}"
        elif charge.amount <= BALANCE_MAX:
            return charge, usage
        else:
            why = "more than an account may hold"
    else:
        why = f"not reported: {', '.join(usage.missing)}"
    if metering.unknown_usage == "charge_nothing":
        return None
    if usage.missing and metering.unknown_usage != "charge_hold":
        seen_bytes = content_bytes if metering.unknown_usage == "charge_estimate" else 0
        known = known_usage(metering.measures, usage, request_bytes, seen_bytes)
        charge = charge_for(metering.rules, known, sources, model, table)
        if not isinstance(charge, Unpriced) and charge.amount <= held:
            return replace(charge, basis="estimated"), known
    return charge_of_hold(table, held, why), usage


def failed(route: Route, sources: Sources) -> bool:
    """Whether a reply says that the service failed, whatever its status says."""
    return route.stream is not None and first_reported(route.stream.errors, sources) is not None


def charge_of_hold(table: PriceTable, held: Nanos, why: str) -> Charge:
    """The charge where nothing better is known than what was held."""
    item = LineItem(sku="estimate", quantity="1", unit="hold", unit_price=why, amount=held)
    return Charge(amount=held, items=(item,), price_version=table.version, rate_card=table.rate_card, basis="estimated")


def job_facts(route: Route, sources: Sources) -> dict[str, Any]:
    """The request's fields that the price of its job needs, cut down to what pricing looks at."""
    assert route.job is not None, f"the route {route.name} makes no job"
    request = sources.get("request")
    if type(request) is not dict:
        return {}
    names = {str(field.steps[0]) for field in route.job.facts if field.steps}
    return {name: _slim(request[name]) for name in sorted(names) if request.get(name) is not None}


def update_facts(route: Route, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Of the fields of a session's update, those that are read, and of them as much as pricing looks at."""
    assert route.metering is not None, f"the session {route.name} has no metering"
    read = (field for measure in route.metering.measures for field in measure.fields if field.source == "request")
    measured = {str(field.steps[0]) for field in read}
    return {
        name: value if name in measured else _slim(value) for name, value in fields.items() if name in route.read_fields
    }


def read_facts(route: Route, request: Any) -> dict[str, Any]:
    """The request's fields that the price of a call is read from, cut down to what pricing looks at."""
    if type(request) is not dict:
        return {}
    return {name: _slim(request[name]) for name in sorted(route.read_fields) if request.get(name) is not None}


def _slim(value: Any, depth: int = 4) -> Any:
    """Enough of a value to tell whether it is on and which model it names; a customer's texts are not kept."""
    if type(value) is str:
        return value if len(value) <= _NAME_MAX else True
    if type(value) is list:
        return [_slim(item, depth - 1) for item in value[:8]] if depth else bool(value)
    if type(value) is dict:
        return {name: _slim(item, depth - 1) for name, item in list(value.items())[:32]} if depth else bool(value)
    return value


def usage_record(usage: Usage) -> Mapping[str, Any]:
    """Quantities as JSON: exact decimals as text."""
    return {name: value if type(value) is int else str(value) for name, value in usage.quantities.items()}
