"""Products, their jobs and routes.

Owns: what belongs to what (a job to the routes that make, report and delete it), which body is read.
Does not know: prices, tiers.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from gateway.core.extract import Field, known_tree
from gateway.settings.compile.errors import compile_errors
from gateway.settings.compile.metering import (
    Reading,
    check_parameter,
    compile_metering,
    conditions_of,
    fields_of,
    is_by_model,
)
from gateway.settings.compile.scope import Metered, Scope
from gateway.settings.problems import Place
from gateway.settings.routing import Pattern, parse_pattern
from gateway.settings.runtime import (
    Creation,
    Job,
    Listing,
    Metering,
    Models,
    Product,
    Rejection,
    Requirement,
    Route,
    Upstream,
)
from gateway.settings.schema.product import JobSettings, ListingSettings, ProductSettings, RouteSettings

_METER_KEYS: Final = ("usage", "charges", "hold", "sample", "free_fields")


@dataclass(slots=True, kw_only=True)
class Made:
    """A compiled product with the places of its routes and jobs, for what is checked later."""

    settings: ProductSettings
    place: Place
    product: Product
    jobs: dict[str, Job] = field(default_factory=dict)
    routes: list[tuple[Route, Place]] = field(default_factory=list)


def compile_product(settings: ProductSettings, place: Place, scope: Scope) -> Made:
    """The product and its jobs; the routes need the jobs of every product and come after."""
    errors = compile_errors(settings.errors, place.at("errors"), scope)
    models = _models(settings, place, scope)
    scope.known(place.at("upstream"), settings.upstream, scope.upstream_names, "upstream")
    nowhere = Upstream(name=settings.upstream, base_url="", credential="")  # only to find the other problems
    product = Product(
        name=settings.product,
        title=settings.title,
        upstream=scope.upstreams.get(settings.upstream, nowhere),
        errors=errors,
        models=models,
        strip_reply_fields=tuple(settings.strip_reply_fields),
        metered_body_bytes_max=settings.metered_body_bytes_max,
        whole_body_bytes_max=settings.whole_body_bytes_max,
        drain_seconds_max=settings.drain_seconds_max,
        drain_bytes_max=settings.drain_bytes_max,
        allow_up_to=settings.on_ledger_unavailable.allow_up_to,
    )
    made = Made(settings=settings, place=place, product=product)
    for kind, job in settings.jobs.items():
        made.jobs[kind] = _job(kind, job, made, scope)
    return made


def _models(settings: ProductSettings, place: Place, scope: Scope) -> Models | None:
    models = settings.models
    if models is None:
        return None
    scope.known(place.at("models", "default"), models.default, models.known, "model")
    return Models(
        asked=tuple(models.asked),
        ran=tuple(models.ran),
        default=models.default,
        unknown=models.unknown,
        known=models.known,
    )


# ---- jobs


def _job(kind: str, settings: JobSettings, made: Made, scope: Scope) -> Job:
    place = made.place.at("jobs", kind)
    models = made.product.models
    if not settings.look.startswith("/") or settings.look.count("{id}") != 1:
        scope.report.add(place.at("look"), 'write the path with the id in it once, like "/v2/things/{id}"')
    for index, status in enumerate(settings.failed):
        if status in settings.completed:
            scope.report.add(place.at("failed", index), f'"{status}" is also a completed status')
    routes = [route for route in made.settings.routes if route.job == kind]
    if not routes:
        scope.report.add(place, f"no route makes this job: one needs meter: job and job: {kind}", at_key=True)
    reading = Reading(of_job=True, fixed_hold=bool(routes) and all(route.hold is not None for route in routes))
    metering = compile_metering(settings, place, reading, models, scope)
    scope.metered.append(Metered(place=place, product=made.product.name, metering=metering, models=models))
    return Job(
        kind=kind,
        product=made.product.name,
        id=settings.id,
        status=settings.status,
        completed=frozenset(settings.completed),
        failed=frozenset(settings.failed),
        look=settings.look,
        seconds_max=settings.seconds_max,
        metering=metering,
        facts=_facts(metering, models),
    )


def _facts(metering: Metering, models: Models | None) -> tuple[Field, ...]:
    """The request's fields that the job's price is read from."""
    read = fields_of(metering.measures, metering.rules) + list(models.ran if models is not None else ())
    return tuple(dict.fromkeys(Field("request", field.steps) for field in read if field.source == "job"))


# ---- routes


def compile_routes(made: Made, jobs: Mapping[str, Job], scope: Scope) -> None:
    """Every route of the product, into `made.routes`."""
    for index, settings in enumerate(made.settings.routes):
        place = made.place.at("routes", index)
        route = _route(settings, place, made.product, jobs, scope)
        if route is not None:
            made.routes.append((route, place))


def _route(
    settings: RouteSettings, place: Place, product: Product, jobs: Mapping[str, Job], scope: Scope
) -> Route | None:
    try:
        pattern = parse_pattern(settings.match, settings.host)
    except ValueError as error:
        scope.report.add(place.at("match"), str(error))
        return None
    _check_meter(settings, place, scope)
    _check_resources(settings, pattern, place, scope)
    required = tuple(requirement.resource for requirement in settings.requires)
    metering = None
    if settings.meter in ("fixed", "response"):
        reading = Reading(
            of_job=False, parameters=pattern.parameters, required=required, fixed_hold=settings.hold is not None
        )
        metering = compile_metering(settings, place, reading, product.models, scope)
        scope.metered.append(Metered(place=place, product=product.name, metering=metering, models=product.models))
    job = jobs.get(settings.job or "")
    if job is not None and job.product != product.name:
        scope.report.add(place.at("job"), f"the job {job.kind} belongs to the product {job.product}: make it there")
        job = None
    read = _read_of_request(settings, metering, job, product.models)
    return Route(
        name=settings.name,
        product=product,
        methods=pattern.methods,
        host=pattern.host,
        segments=pattern.segments,
        parameters=pattern.parameters,
        meter=settings.meter,
        metering=metering,
        job=job,
        reports=jobs.get(settings.reports or ""),
        requires=tuple(
            Requirement(kind=requirement.resource, field=requirement.id, prefixes=tuple(requirement.prefixes))
            for requirement in settings.requires
        ),
        creates=None
        if settings.creates is None
        else Creation(
            kind=settings.creates.resource, field=settings.creates.id, keep_seconds=settings.creates.keep_seconds
        ),
        deletes=settings.deletes,
        listing=None if settings.lists is None else _listing(settings.lists),
        body=_body(settings, read, place, scope),
        body_bytes_max=settings.body_bytes_max,
        known_fields=_known_fields(settings, metering, job, read, place, scope),
        rejections=tuple(
            Rejection(field=rejection.field, equals=rejection.equals, message=rejection.message)
            for rejection in settings.rejects
        ),
        hold=None if settings.hold is None else settings.hold.fixed,
        covers_estimate=settings.admission == "covers_estimate",
        needs_record=metering is not None
        and any(field.source == "job" for field in fields_of(metering.measures, metering.rules)),
        public=settings.public,
    )


def _listing(settings: ListingSettings) -> Listing:
    return Listing(
        kind=settings.resource,
        items=settings.items,
        id=settings.id,
        limit=settings.limit,
        limit_default=settings.limit_default,
        limit_max=settings.limit_max,
        before=settings.before,
        after=settings.after,
        count=settings.count,
        shown_limit=settings.shown_limit,
        current=settings.current,
        older=settings.older,
        newer=settings.newer,
        pages_max=settings.pages_max,
    )


# ---- what must go together


def _check_meter(settings: RouteSettings, place: Place, scope: Scope) -> None:
    meter, add = settings.meter, scope.report.add
    given = [key for key in _METER_KEYS if getattr(settings, key)]
    if meter == "none":
        for key in given:
            message = (
                f"this route is free, so {key} has no effect: add meter: response (or fixed, or job), or remove it"
            )
            add(place.at(key), message, at_key=True)
    elif settings.public:
        add(place.at("public"), "a route that costs needs a key: remove public, or the meter")
    if meter == "job":
        if settings.job is None:
            add(place.at("meter"), "meter: job needs the job that the route makes: add job")
        for key in ("usage", "charges"):
            if key in given:
                add(place.at(key), f"a job is charged by its own {key}: move this to jobs.{settings.job}", at_key=True)
    elif settings.job is not None:
        add(place.at("job"), "a route that makes a job has meter: job", at_key=True)
    if meter in ("response", "fixed") and not settings.charges:
        add(place.at("meter"), f"this route is unpriced: meter: {meter} needs charges")
    if meter == "response" and not settings.usage:
        add(place.at("meter"), "meter: response needs usage: where the quantities are read from")


def _check_resources(settings: RouteSettings, pattern: Pattern, place: Place, scope: Scope) -> None:
    required = [requirement.resource for requirement in settings.requires]
    for index, requirement in enumerate(settings.requires):
        where = place.at("requires", index)
        scope.known(where.at("resource"), requirement.resource, scope.kinds, "resource")
        check_parameter(requirement.id, where.at("id"), pattern.parameters, scope)
    for index, rejection in enumerate(settings.rejects):
        check_parameter(rejection.field, place.at("rejects", index, "field"), pattern.parameters, scope)
    if settings.job is not None:
        scope.known(place.at("job"), settings.job, scope.jobs, "job")
    for key, kind, names in (("reports", settings.reports, scope.jobs), ("deletes", settings.deletes, scope.kinds)):
        if kind is not None and scope.known(place.at(key), kind, names, "resource") and kind not in required:
            scope.report.add(place.at(key), f"the {kind} must be the caller's: add it to requires")
    if settings.lists is not None:
        scope.known(place.at("lists", "resource"), settings.lists.resource, scope.kinds, "resource")
        if pattern.methods != {"GET"}:
            scope.report.add(place.at("match"), "a list is read with GET")
        if settings.lists.limit_default > settings.lists.limit_max:
            message = f"limit_default is more than the limit_max of {settings.lists.limit_max}"
            scope.report.add(place.at("lists", "limit_default"), message)
    if settings.public:
        for key in ("requires", "creates", "deletes", "reports", "lists"):
            if getattr(settings, key):
                scope.report.add(place.at(key), "nobody owns what a public route touches: remove public", at_key=True)


# ---- the request's body


def _read_of_request(
    settings: RouteSettings, metering: Metering | None, job: Job | None, models: Models | None
) -> list[Field]:
    """The fields of the request's body that are read before it is forwarded."""
    fields = [requirement.id for requirement in settings.requires]
    fields += [rejection.field for rejection in settings.rejects]
    priced = job.metering if job is not None else metering
    if priced is not None:
        read = fields_of(priced.measures, priced.rules)
        if job is not None:
            read += job.facts
            read = [Field("request", field.steps) if field.source == "job" else field for field in read]
        fields += read
        for measure in priced.measures:
            fields += [*measure.estimate.fields, *measure.estimate.times]
        if models is not None and any(is_by_model(rule) for rule in priced.rules):
            fields += models.asked
    return [field for field in fields if field.source == "request"]


def _body(settings: RouteSettings, read: Iterable[Field], place: Place, scope: Scope) -> Literal["json", "stream"]:
    first = next(iter(read), None)
    needed = first is not None or settings.free_fields is not None
    if settings.body == "stream" and needed:
        why = f"{first} is read" if first is not None else "free_fields are looked for"
        scope.report.add(place.at("body"), f"{why}, and a streamed body is not parsed: write body: json")
    return settings.body or ("json" if needed else "stream")


def _known_fields(
    settings: RouteSettings,
    metering: Metering | None,
    job: Job | None,
    read: Iterable[Field],
    place: Place,
    scope: Scope,
) -> dict[str, Any] | None:
    if settings.free_fields is not None:
        return known_tree([*settings.free_fields, *(_object_path(field) for field in read)])
    priced = job.metering if job is not None else metering
    if priced is not None and any(
        field.source in ("request", "job") and field.steps[0] != "usage"
        for condition in conditions_of(priced.rules)
        for field in condition.fields
    ):
        message = (
            "charges depend on what the request switches on: list the other fields in free_fields, "
            "so that none is free by accident"
        )
        scope.report.add(place, message, at_key=True)
    return None


def _object_path(field: Field) -> str:
    """The path as far as it leads through objects."""
    steps: list[str] = []
    for step in field.steps:
        if isinstance(step, int) or step == "*":
            break
        steps.append(step)
    return ".".join(steps)
