"""Measures and charges: of a route, or of a job.

Owns: what they may read and when, and that every name in them is known.
Does not know: prices.

A job is settled on its reply and on the request that made it, which is kept: `job.x` is the request's `x`. At
admission the same `job.x` is read from the request at hand. Elsewhere `job.usage.x` is what a required job used.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final, TypeVar

from gateway.core.audio.probe import FACTS
from gateway.core.extract import Field
from gateway.core.parts import SOURCE as PART
from gateway.core.parts import is_name, part_of
from gateway.core.pricing import ChargeRule, Condition
from gateway.core.usage import QUANTITY_MAX, Estimate, Measure
from gateway.settings.compile.scope import Scope
from gateway.settings.metering import Metering, UnknownUsage
from gateway.settings.problems import Place
from gateway.settings.products import Models
from gateway.settings.schema.job import JobSettings
from gateway.settings.schema.metering import ChargeSettings, ConditionSettings, EstimateSettings, MeasureSettings
from gateway.settings.schema.route import RouteSettings
from gateway.settings.schema.session import SessionSettings

NO_PARTS: Final = "only the parts of a request that is charged by itself are counted: not those of a job or a session"
NO_NAME: Final = "a part is named by its type, like image_url or web_search_20*, or by a field of it, like ttl=1h"
_AT_SETTLEMENT: Final = ("reply", "job")
_Nested = TypeVar("_Nested", Condition, ConditionSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Who meters: a job (`of_job`), or a route with these parameters and required kinds of resources, or a socket, or
    whoever settles the call and reports its usage by the measures' names (`reported`).
    """

    of_job: bool = False
    parameters: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    fixed_hold: bool = False
    session: SessionSettings | None = None
    reported: bool = False

    @property
    def has_parts(self) -> bool:
        """Whether there is a body whose parts are counted."""
        return not self.of_job and self.session is None


def compile_metering(
    settings: JobSettings | RouteSettings, place: Place, reading: Reading, models: Models | None, scope: Scope
) -> Metering:
    """The meter as it runs; problems are noted on the way."""
    measures = tuple(
        _measure(name, measure, place.at("usage", name), reading, scope) for name, measure in settings.usage.items()
    )
    known = [*settings.usage, "calls"]
    rules = tuple(
        _rule(charge, place.at("charges", index), known, reading, models, scope)
        for index, charge in enumerate(settings.charges)
    )
    _check_unknown_usage(settings.unknown_usage, measures, place.at("unknown_usage"), reading, scope)
    uses_models = any(is_by_model(rule) for rule in rules)
    if reading.of_job and uses_models and models is not None:
        for index, field in enumerate(models.ran):
            if field.source not in _AT_SETTLEMENT:
                message = f"{field} is not known when a job is settled: write job.x for the request's x"
                scope.report.add(Place(place.document, ("models", "ran", index)), message)
    read = [*fields_of(measures, rules), *(models.ran if uses_models and models is not None else ())]
    return Metering(
        measures=measures,
        rules=rules,
        unknown_usage=settings.unknown_usage,
        reads_reply=any(field.source == "reply" for field in read),
    )


def is_by_model(rule: ChargeRule) -> bool:
    """Whether a line depends on which model ran."""
    text = rule.sku + (rule.fallback_sku or "")
    return "{model}" in text or bool(rule.only_models or rule.not_models)


def conditions_of(rules: Iterable[ChargeRule]) -> Iterator[Condition]:
    """Every condition, those within conditions included."""
    for rule in rules:
        yield from _with_inner(rule.when)


def _with_inner(condition: _Nested | None) -> Iterator[_Nested]:
    if condition is not None:
        yield condition
        yield from _with_inner(condition.also)
        yield from _with_inner(condition.unless)


def fields_of(measures: Iterable[Measure], rules: Iterable[ChargeRule]) -> list[Field]:
    """Every field that is read when a charge is made."""
    found = [field for measure in measures for field in measure.fields]
    return found + [field for condition in conditions_of(rules) for field in condition.fields]


def fields_of_settings(settings: JobSettings | RouteSettings) -> list[Field]:
    """The same, as written."""
    found = [field for measure in settings.usage.values() for field in measure.fields]
    for charge in settings.charges:
        found += [field for condition in _with_inner(charge.when) for field in condition.fields]
    return found


def check_parameter(field: Field, place: Place, parameters: Sequence[str], scope: Scope) -> None:
    """A `path.x` must be a parameter of the route."""
    if field.source == "path":
        scope.known(place, str(field.steps[0]), parameters, "parameter of the path")


# ---- measures


def _measure(name: str, settings: MeasureSettings, place: Place, reading: Reading, scope: Scope) -> Measure:
    for index, field in enumerate(settings.fields if not reading.reported else ()):
        _check_field(field, place.at("from", index), reading, scope)
    if settings.clock and reading.session is None:
        scope.report.add(place.at("clock"), "only a session is measured by the clock: its route has meter: session")
    fields = tuple(settings.fields)
    if reading.reported:
        if fields or settings.count != "value":
            scope.report.add(place.at("from" if fields else "count"), "this measure is reported by its name: remove it")
        fields = (Field("frame", (name,)),)
    elif not fields and not settings.clock:
        scope.report.add(place, "nothing reports this measure: add from", at_key=True)
    least = settings.min or 0
    most = QUANTITY_MAX if settings.max is None else settings.max
    for key, given in (("min", settings.min), ("max", settings.max)):
        if given is not None and settings.count != "value":
            scope.report.add(place.at(key), f"what is counted is no report that could be absurd: remove {key}")
    if not least <= (least if settings.default is None else settings.default) <= most:
        said = ("" if settings.default is None else f" <= the default of {settings.default}") + f" <= the max of {most}"
        scope.report.add(place, f"this must hold: the min of {least}{said}", at_key=True)
    return Measure(
        name=name,
        fields=fields,
        count=settings.count,
        default=settings.default,
        least=least,
        most=most,
        clock=settings.clock,
        estimate=_estimate(settings, place, reading, scope),
    )


def _estimate(settings: MeasureSettings, place: Place, reading: Reading, scope: Scope) -> Estimate:
    estimate = settings.estimate
    if settings.clock and reading.session is not None:
        if estimate is not None:
            scope.report.add(place.at("estimate"), "what is held is one slice: remove the estimate", at_key=True)
        return Estimate(default=ceil(reading.session.slice_seconds))
    if estimate is None:
        if settings.default is None and not reading.fixed_hold:
            message = "say what to expect before the call is forwarded: add an estimate, like estimate: {default: 1000}"
            scope.report.add(place, message, at_key=True)
        return Estimate(default=settings.default or 0)
    place = place.at("estimate")
    default = settings.default if estimate.default is None else estimate.default
    _check_estimate(estimate, default, place, reading, scope)
    if estimate.when and settings.default is None:
        scope.report.add(place.at("when"), "where it is off the measure's default counts: add one there", at_key=True)
    return Estimate(
        fields=tuple(estimate.fields),
        size=tuple(estimate.size),
        bytes_per_unit_min=estimate.bytes_per_unit_min or 1,
        bytes_per_unit_max=estimate.bytes_per_unit_max or 1,
        when=tuple(estimate.when),
        otherwise=settings.default or 0,
        request_bytes_per_unit=estimate.request_bytes_per_unit,
        content_bytes_per_unit=estimate.content_bytes_per_unit,
        default=default or 0,
        minimum=estimate.min or 0,
        maximum=estimate.max,
        times=tuple(estimate.times),
        plus=tuple(estimate.plus),
        parts=dict(estimate.parts),
        data=tuple(estimate.data),
    )


def _check_estimate(
    estimate: EstimateSettings, default: int | None, place: Place, reading: Reading, scope: Scope
) -> None:
    """Whether an estimate always says something, and nothing without bounds."""
    if default is None and estimate.request_bytes_per_unit is None:
        scope.report.add(place, "the estimate needs a default, for a request that says nothing", at_key=True)
    if (estimate.fields or estimate.size or estimate.times or estimate.plus or estimate.parts) and estimate.max is None:
        scope.report.add(place, "a request must not claim any number: add max", at_key=True)
    if estimate.max is not None and (default or 0) > estimate.max:
        scope.report.add(place.at("default"), f"the default is more than the max of {estimate.max}")
    least, most = estimate.bytes_per_unit_min, estimate.bytes_per_unit_max
    for key, given in (("bytes_per_unit_min", least), ("bytes_per_unit_max", most)):
        if (given is None) is bool(estimate.size):
            message = "bytes, bytes_per_unit_min and bytes_per_unit_max go together: add the others, or remove it"
            scope.report.add(place.at("bytes") if given is None else place.at(key), message, at_key=True)
    if least is not None and most is not None and least > most:
        scope.report.add(place.at("bytes_per_unit_min"), f"this is more than the bytes_per_unit_max of {most}")
    if estimate.max is not None and (estimate.min or 0) > estimate.max:
        scope.report.add(place.at("min"), f"the min is more than the max of {estimate.max}")
    _check_parts(estimate, place, reading, scope)
    keys = ("fields", "from"), ("size", "bytes"), ("when", "when"), ("times", "times"), ("plus", "plus")
    for name, key in keys:
        fields: list[Field] = getattr(estimate, name)
        for index, field in enumerate(fields):
            _check_expected(field, place.at(key, index), reading, scope)


def _check_parts(estimate: EstimateSettings, place: Place, reading: Reading, scope: Scope) -> None:
    """Whether there are parts to count, and what is said of them can be found."""
    for name in estimate.parts:
        if not reading.has_parts:
            scope.report.add(place.at("parts"), NO_PARTS)
        elif not is_name(name):
            scope.report.add(place.at("parts", name), NO_NAME, at_key=True)
    for index, field in enumerate(estimate.data):
        if field.source != "request" or not estimate.parts:
            message = "the data of parts is in the request: write request.x, and add parts"
            scope.report.add(place.at("data", index), message)


def _check_expected(field: Field, place: Place, reading: Reading, scope: Scope) -> None:
    """Whether a field is known before the call is forwarded."""
    if field.source == "resource":
        if len(field.steps) > 1 or field.steps[0] not in FACTS:
            scope.report.add(place, f"of a resource are known its {', '.join(FACTS)}: write resource.seconds")
        elif scope.complete and not scope.audio_kinds.intersection(reading.required):
            message = "the call requires no resource that is audio: add requires, and audio: true to what creates it"
            scope.report.add(place, message)
    elif field.source == PART:
        if not reading.has_parts or not is_name(part_of(field)):
            scope.report.add(place, NO_NAME if reading.has_parts else NO_PARTS)
    elif not reading.of_job:
        check_parameter(field, place, reading.parameters, scope)
    elif field.source != "request":
        scope.report.add(place, "the estimate of a job is read from its request: write request.x")


def _check_unknown_usage(
    policy: UnknownUsage, measures: Iterable[Measure], place: Place, reading: Reading, scope: Scope
) -> None:
    """A policy that charges what is known needs a measure of which something is known without a report."""
    if policy in ("charge_hold", "charge_nothing"):
        return
    for measure in measures:
        sizes = (measure.estimate.request_bytes_per_unit, measure.estimate.content_bytes_per_unit)
        if measure.known_before or (not reading.of_job and any(sizes[: 2 if policy == "charge_estimate" else 1])):
            return
    message = f"without a report nothing of this usage is known, so {policy} would charge nothing: "
    message += "write charge_hold" if reading.of_job else "estimate a measure by its bytes, or write charge_hold"
    scope.report.add(place, message)


def _check_field(field: Field, place: Place, reading: Reading, scope: Scope) -> None:
    """Whether a field is known at the time when it is read."""
    if reading.of_job:
        if field.source == "request":
            scope.report.add(
                place, f"a job is settled on its reply and the request that is kept: write job.{str(field)[8:]}"
            )
        elif field.source not in _AT_SETTLEMENT:
            scope.report.add(place, f"{field.source} is not known when a job is settled: write reply.x or job.x")
        return
    check_parameter(field, place, reading.parameters, scope)
    if field.source == "resource":
        scope.report.add(place, "what a resource is said to be is no usage: only an estimate reads it")
        return
    if reading.reported and field.source in ("reply_header", "job", "frame"):
        scope.report.add(place, "whoever settles the call tells its request and its reply: write request.x or reply.x")
        return
    if reading.session is not None and field.source in ("reply", "reply_header", "job"):
        scope.report.add(place, "a session has no reply and no job: write frame.x, request.x or query.x")
        return
    if reading.session is None and field.source == "frame":
        scope.report.add(place, "only a session has frames: its route has meter: session")
        return
    if field.source != "job":
        return
    if field.steps[0] != "usage" or len(field.steps) != 2:
        scope.report.add(place, "of a required job only its usage is known: write job.usage.x")
        return
    jobs = [kind for kind in reading.required if kind in scope.jobs]
    if not jobs:
        scope.report.add(place, f"{field} is the usage of a job: require that job with requires")
        return
    measures = {measure for kind in jobs for measure in scope.jobs[kind]}
    scope.known(place, str(field.steps[1]), measures, f"measure of the job {jobs[0]}")


# ---- charges


def _rule(
    settings: ChargeSettings, place: Place, known: Sequence[str], reading: Reading, models: Models | None, scope: Scope
) -> ChargeRule:
    scope.known(place.at("quantity"), settings.quantity, known, "measure")
    if settings.times is not None:
        scope.known(place.at("times"), settings.times, known, "measure")
    for index, name in enumerate(settings.minus):
        scope.known(place.at("minus", index), name, known, "measure")
    for key, sku in (("sku", settings.sku), ("fallback_sku", settings.fallback_sku or "")):
        if "{model}" in sku and models is None:
            scope.report.add(place.at(key), "{model} is used, but this product has no models: add models")
    names = {*models.known.values(), models.unknown} if models is not None else set()
    for key, listed in (("only_models", settings.only_models), ("not_models", settings.not_models)):
        for index, name in enumerate(listed):
            scope.known(place.at(key, index), name, names, "model in SKUs")
    if settings.part_of is not None:
        scope.known(place.at("part_of"), settings.part_of, scope.products, "product")
    return ChargeRule(
        sku=settings.sku,
        fallback_sku=settings.fallback_sku,
        quantity=settings.quantity,
        times=settings.times,
        minus=tuple(settings.minus),
        when=compile_condition(settings.when, place.at("when"), reading, scope),
        only_models=tuple(settings.only_models),
        not_models=tuple(settings.not_models),
        part_of=settings.part_of,
    )


def compile_condition(
    settings: ConditionSettings | None, place: Place, reading: Reading, scope: Scope
) -> Condition | None:
    """When something applies, by fields that are known then."""
    if settings is None:
        return None
    for index, field in enumerate(settings.fields):
        _check_field(field, place.at("any", index), reading, scope)
    return Condition(
        fields=tuple(settings.fields),
        equals=tuple(settings.equals),
        also=compile_condition(settings.also, place.at("also"), reading, scope),
        unless=compile_condition(settings.unless, place.at("unless"), reading, scope),
    )
