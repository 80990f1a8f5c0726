"""What a call is expected to cost, and what it did cost: the settings applied to what is known of it.

Owns: the order "model, usage, rules, table", which facts of a request are kept for it, and the
answer to unknown usage and unknown models.
Does not know: the ledger. Plain functions of values.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from gateway.core.extract import Sources, first_reported
from gateway.core.money import BALANCE_MAX, ZERO, Nanos
from gateway.core.parts import without_data
from gateway.core.pricing import Charge, LineItem, PriceTable, Unpriced, amount_for, charge_for
from gateway.core.tariff import tariff
from gateway.core.usage import Usage, estimate_usage, known_usage, read_usage
from gateway.settings.metering import Metering
from gateway.settings.products import Product
from gateway.settings.routes import Route

#: No model, domain or flag has a longer name; a longer text is a customer's content.
_NAME_MAX: Final = 64


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
    if models is None:
        return "", True
    said = first_reported(models.ran, sources)
    if said == "":  # some services leave it out like this
        said = next((value for field in models.ran if (value := field.read(sources))), None)
    return models.charged_as(said)


def charge(
    metering: Metering,
    model: str,
    sources: Sources,
    table: PriceTable,
    held: Nanos,
    *,
    request_bytes: int = 0,
    content_bytes: int = 0,
) -> Charge | None:
    """The charge for a success. None: the policy for unknown usage charges nothing.

    `model` is the SKU name of the one that ran.

    A charge on unknown usage is the hold, or what is known to have been used if that is less, and marked as estimated:
    of a call that reports none, the bytes of its request and of the content it delivered are known.
    """
    plain = tariff(metering, table, model).charge(sources)
    if plain is not None and plain.amount <= BALANCE_MAX:
        return plain
    priced = _priced(metering, model, sources, table, held, request_bytes=request_bytes, content_bytes=content_bytes)
    return None if priced is None else priced[0]


def price(
    metering: Metering, model: str, sources: Sources, table: PriceTable, held: Nanos
) -> tuple[Charge, Usage] | None:
    """The same, and the usage behind it."""
    plain = tariff(metering, table, model).charge(sources)
    if plain is not None and plain.amount <= BALANCE_MAX:
        return plain, read_usage(metering.measures, sources)
    return _priced(metering, model, sources, table, held)


def _priced(
    metering: Metering,
    model: str,
    sources: Sources,
    table: PriceTable,
    held: Nanos,
    *,
    request_bytes: int = 0,
    content_bytes: int = 0,
) -> tuple[Charge, Usage] | None:
    """The long way, for whatever a service says."""
    usage = read_usage(metering.measures, sources)
    if usage.reported:
        found = charge_for(metering.rules, usage, sources, model, table)
        if isinstance(found, Unpriced):
            why = f"unpriced {found.sku}"
        elif found.amount <= BALANCE_MAX:
            return found, usage
        else:
            why = "more than an account may hold"
    else:
        why = f"not reported: {', '.join(usage.missing)}"
    if metering.unknown_usage == "charge_nothing":
        return None
    if usage.missing and metering.unknown_usage != "charge_hold":
        seen_bytes = content_bytes if metering.unknown_usage == "charge_estimate" else 0
        known = known_usage(metering.measures, usage, without_data(request_bytes, sources), seen_bytes)
        found = charge_for(metering.rules, known, sources, model, table)
        if not isinstance(found, Unpriced) and found.amount <= held:
            return replace(found, basis="estimated"), known
    return charge_of_hold(table, held, why), usage


def failed(route: Route, sources: Sources) -> bool:
    """Whether a reply says that the service failed, whatever its status says."""
    return route.stream is not None and route.stream.fails(sources)


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
