"""Samples: each meter is tried on the call that the config gives, before any customer's.

Owns: what a sample must come to. Does not know: rate cards; samples are at list prices.
"""

from typing import Any

from gateway.core.extract import Sources, fields_on, first_reported
from gateway.core.money import format_usd
from gateway.core.parameters import meaning, unknown_on
from gateway.core.pricing import Unpriced, charge_for
from gateway.core.usage import read_usage
from gateway.settings.compile.scope import Scope
from gateway.settings.problems import Place, nearest
from gateway.settings.products import Models
from gateway.settings.routes import Route
from gateway.settings.schema.metering import SampleSettings


def check_sample(sample: SampleSettings, route: Route, place: Place, scope: Scope) -> None:
    """Price the sample; problems where it is refused, reports no usage, or costs something else."""
    metering = route.job.metering if route.job is not None else route.metering
    job = () if route.job is None else ("jobs", route.job.kind)
    broken = scope.report.has_below(Place(place.document, place.path[:-1])) or (
        job and scope.report.has_below(Place(place.document, job))
    )
    if metering is None or not scope.list_prices or broken:
        return
    version = sample.version or next(iter(scope.list_prices))
    if not scope.known(place.at("version"), version, scope.list_prices, "version of the price list"):
        return
    if route.known_fields is not None and (found := fields_on(sample.request, route.known_fields)) is not None:
        scope.report.add(place.at("request"), f"this request would be refused: {found} is neither free nor charged")
    known = route.known_parameters
    if known is not None and (found := unknown_on(_parameters(sample), known)) is not None:
        scope.report.add(place.at("query"), f"this request would be refused: {found} is neither free nor charged")
    sources = _sources(sample, route)
    if route.job is not None and (status := route.job.status.read(sources)) not in route.job.completed:
        completed = " or ".join(sorted(route.job.completed))
        message = f"the sample's job would not be settled: its status is {status}, not {completed}"
        scope.report.add(place.at("reply"), message)
    usage = read_usage(metering.measures, sources)
    for measure in metering.measures:
        if measure.name in usage.missing:
            fields = " or ".join(map(str, measure.fields)) if route.meter != "reported" else measure.name
            if measure.clock and not fields:
                scope.report.add(place, f"nothing but the clock measures {measure.name}: there can be no sample")
                continue
            told = "usage" if route.meter == "reported" else "reply" if route.session is None else "frame"
            scope.report.add(place.at(told), f"the sample does not report {measure.name}: {fields} is missing")
    if usage.missing:
        return
    model = _ran(route.product.models, sources)
    charge = charge_for(metering.rules, usage, sources, model, scope.list_prices[version])
    if isinstance(charge, Unpriced):
        return  # noted where the charge is
    if charge.amount != sample.charge:
        lines = " + ".join(f"{item.sku} {format_usd(item.amount)}" for item in charge.items) or "nothing"
        message = f'the sample costs "{format_usd(charge.amount)}" ({lines}), not "{format_usd(sample.charge)}"'
        scope.report.add(place.at("charge"), message)


def _sources(sample: SampleSettings, route: Route) -> Sources:
    if route.job is not None:  # all that is known when it is settled
        return {"reply": sample.reply, "job": sample.request}
    return {
        "request": sample.request,
        "request_header": {name.lower(): value for name, value in sample.request_headers.items()},
        "query": _parameters(sample),
        "path": sample.path,
        "reply": sample.reply,
        "reply_header": {name.lower(): value for name, value in sample.reply_headers.items()},
        "job": sample.job,
        "frame": sample.usage or sample.frame,
    }


def _parameters(sample: SampleSettings) -> dict[str, Any]:
    return {name: meaning(text) for name, text in sample.query.items()}


def _ran(models: Models | None, sources: Sources) -> str:
    if models is None:
        return ""
    return models.charged_as(first_reported(models.ran, sources))[0]


def unknown_models(names: list[str], models: Models | None, place: Place, scope: Scope) -> None:
    """Names of models that a tier gives and the product does not have."""
    known = models.known if models is not None else {}
    for index, name in enumerate(names):
        if name not in known:
            scope.report.add(place.at(index), f'unknown model "{name}"{nearest(name, known)}')
