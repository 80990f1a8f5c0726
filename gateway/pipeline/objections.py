"""What is wrong with a request itself, before anybody's credit is looked at.

Owns: models that are not known, fields and parameters that have no price, what a route rejects.
Does not know: plans, the ledger. Plain functions of values.
"""

from typing import Any, Final

from gateway.core.errors import Code, Refused
from gateway.core.extract import Sources, fields_on, first_reported
from gateway.core.parameters import unknown_on
from gateway.settings.products import Models
from gateway.settings.routes import Route

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


def objection(route: Route, sources: Sources, models: tuple[str, ...], *, passed_over: bool) -> Refused | None:
    """What is wrong with the request itself, before anybody's credit is looked at. `passed_over`: what
    `Route.passes_over` says of it.
    """
    request = sources.get("request")
    if (
        type(request) is not dict
        and route.body == "json"
        and (route.metered or any(each.field.source == "request" for each in route.requires))
    ):
        return Refused(code=Code.INVALID_REQUEST, details={"reason": "the body must be a JSON object"})
    if not passed_over:
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
