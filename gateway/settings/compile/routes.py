"""Routes: each with its path, its meter, and what it touches.

Owns: what belongs to what (a job to the routes that make, report and delete it), and what of a route goes together.
Does not know: prices, tiers, what of a request is read (`asked`), sockets (`sessions`), streams (`streams`).
"""

from collections.abc import Mapping
from typing import Final

from gateway.settings.compile.asked import Asked
from gateway.settings.compile.errors import compile_not_found
from gateway.settings.compile.metering import Reading, check_parameter, compile_metering, fields_of
from gateway.settings.compile.products import Made
from gateway.settings.compile.scope import Metered, Scope
from gateway.settings.compile.sessions import check_socket, compile_mint, compile_session
from gateway.settings.compile.streams import check_stream, compile_stream
from gateway.settings.jobs import Job
from gateway.settings.metering import Metering
from gateway.settings.problems import Place
from gateway.settings.products import Product
from gateway.settings.resources import Creation, Injection, Listing, Requirement
from gateway.settings.routes import Rejection, Route
from gateway.settings.routing import Pattern, parse_pattern
from gateway.settings.schema.route import CreationSettings, ListingSettings, RouteSettings

#: Of a route that nothing is found by: it is named over the credit API.
_NO_PATTERN: Final = Pattern(methods=frozenset(), host=None, segments=(), parameters=())
_METER_KEYS: Final = ("usage", "charges", "hold", "sample", "free_fields")


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
        pattern = _NO_PATTERN if settings.match is None else parse_pattern(settings.match, settings.host)
    except ValueError as error:
        scope.report.add(place.at("match"), str(error))
        return None
    _check_forwarding(settings, product, place, scope)
    _check_meter(settings, place, scope)
    _check_resources(settings, pattern, place, scope)
    check_socket(settings, pattern, place, scope)
    check_stream(settings, product, place, scope)
    required = tuple(requirement.resource for requirement in settings.requires)
    metering = _metering(settings, pattern, required, product, place, scope)
    job = jobs.get(settings.job or "")
    if job is not None and job.product != product.name:
        scope.report.add(place.at("job"), f"the job {job.kind} belongs to the product {job.product}: make it there")
        job = None
    asked = Asked.by(settings, metering, job, product.models)
    injects = _injects(settings, place, scope)
    body = asked.body(place, scope)
    return Route(
        name=settings.name,
        product=product,
        errors=compile_not_found(settings.not_found, product.errors, place.at("not_found"), scope),
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
        stream=None
        if settings.stream is None or metering is None
        else compile_stream(settings.stream, metering, product.models),
        creates=None if settings.creates is None else _creation(settings.creates, body, place.at("creates"), scope),
        session=None if settings.session is None else compile_session(settings.session, place.at("session"), scope),
        mints=None if settings.mints is None else compile_mint(settings.mints, product.name, place.at("mints"), scope),
        deletes=settings.deletes,
        listing=None if settings.lists is None else _listing(settings.lists),
        body=body,
        body_bytes_max=settings.body_bytes_max,
        known_fields=asked.known_fields(place, scope),
        known_parameters=asked.known_parameters(place, scope),
        read_parameters=asked.read_parameters,
        switch_parameters=asked.switch_parameters,
        read_fields=asked.read_fields,
        rejections=tuple(
            Rejection(**dict(rejection) | {"unless": tuple(rejection.unless)}) for rejection in settings.rejects
        ),
        hold=None if settings.hold is None else settings.hold.fixed,
        covers_estimate=settings.admission == "covers_estimate",
        needs_record=metering is not None
        and any(field.source == "job" for field in fields_of(metering.measures, metering.rules)),
        estimates_by=frozenset(injects) | (scope.audio_kinds.intersection(required) if asked.of_resource else set()),
        injects=injects,
        public=settings.public,
        region=_region(settings.region, product, place.at("region"), scope),
    )


def _metering(
    settings: RouteSettings, pattern: Pattern, required: tuple[str, ...], product: Product, place: Place, scope: Scope
) -> Metering | None:
    if settings.meter in ("none", "job"):
        return None
    reading = Reading(
        parameters=pattern.parameters,
        required=required,
        fixed_hold=settings.hold is not None,
        session=settings.session,
        reported=settings.meter == "reported",
    )
    metering = compile_metering(settings, place, reading, product.models, scope)
    scope.metered.append(Metered(place=place, product=product.name, metering=metering, models=product.models))
    return metering


def _creation(settings: CreationSettings, body: str, place: Place, scope: Scope) -> Creation:
    if settings.audio and body != "stream":
        scope.report.add(place.at("audio"), "audio is read as it passes, and this body is JSON: remove it")
    return Creation(kind=settings.resource, field=settings.id, keep_seconds=settings.keep_seconds, audio=settings.audio)


def _injects(settings: RouteSettings, place: Place, scope: Scope) -> dict[str, Injection]:
    """What the service puts into a request of the jobs that it names, by kind."""
    found: dict[str, Injection] = {}
    for index, requirement in enumerate(settings.requires):
        where = place.at("requires", index)
        if (injected := requirement.injected) is None:
            continue
        kind = requirement.resource
        if kind in scope.jobs:
            measure = where.at("injected", "measure")
            scope.known(measure, injected.measure, scope.jobs[kind], f"measure of the job {kind}")
        elif kind in scope.kinds:
            scope.report.add(where.at("injected"), "only jobs have measures, and this is none: remove it", at_key=True)
        found[kind] = Injection(**dict(injected))
    return found


def _region(region: str | None, product: Product, place: Place, scope: Scope) -> str:
    """The region that a route is bound to; a problem where its product's service is not there."""
    if region is not None:
        scope.known(place, region, {each.region for each in product.upstream.places} - {""}, "region")
    return region or ""


def _listing(settings: ListingSettings) -> Listing:
    facts = dict(settings)
    return Listing(kind=facts.pop("resource"), **facts)


# ---- what must go together


def _check_forwarding(settings: RouteSettings, product: Product, place: Place, scope: Scope) -> None:
    """Whether a route is for calls that are forwarded, or for those that are only told, as its product is."""
    if product.forwarded:
        if settings.match is None:
            scope.report.add(place, "calls are forwarded by their path: add match", at_key=True)
        if settings.meter == "reported":
            message = "this product has an upstream, whose replies report usage: write meter: response (or fixed, sse)"
            scope.report.add(place.at("meter"), message)
        return
    if settings.meter not in ("reported", "fixed", "none"):
        message = f"this product has no upstream, so nothing of meter: {settings.meter} is seen: write meter: reported"
        scope.report.add(place.at("meter"), message)
    elif settings.meter == "none" and settings.match is None:
        scope.report.add(place, "nothing leads to this route: add match, for forward-auth, or a meter", at_key=True)
    for key in ("requires", "creates", "deletes", "lists", "mints", "public"):
        if getattr(settings, key):
            message = "this product has no upstream, so what its replies name is not known: remove it"
            scope.report.add(place.at(key), message, at_key=True)


def _check_meter(settings: RouteSettings, place: Place, scope: Scope) -> None:
    meter, add = settings.meter, scope.report.add
    given = [key for key in _METER_KEYS if getattr(settings, key)]
    if meter == "none":
        for key in given:
            message = f"this route is free, so {key} has no effect: add meter: response (or fixed, job, session)"
            add(place.at(key), f"{message}, or remove it", at_key=True)
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
    if meter in ("response", "sse", "fixed", "session", "reported") and not settings.charges:
        add(place.at("meter"), f"this route is unpriced: meter: {meter} needs charges")
    if meter in ("response", "sse") and not settings.usage:
        add(place.at("meter"), f"meter: {meter} needs usage: where the quantities are read from")
    if meter == "reported" and not settings.usage:
        add(place.at("meter"), "meter: reported needs usage: which quantities are reported")


def _check_resources(settings: RouteSettings, pattern: Pattern, place: Place, scope: Scope) -> None:
    required = [requirement.resource for requirement in settings.requires]
    for index, requirement in enumerate(settings.requires):
        where = place.at("requires", index)
        scope.known(where.at("resource"), requirement.resource, scope.kinds, "resource")
        check_parameter(requirement.id, where.at("id"), pattern.parameters, scope)
    for index, rejection in enumerate(settings.rejects):
        where = place.at("rejects", index)
        check_parameter(rejection.field, where.at("field"), pattern.parameters, scope)
        if rejection.part_of is not None:
            scope.known(where.at("part_of"), rejection.part_of, scope.products, "product")
    if settings.job is not None:
        scope.known(place.at("job"), settings.job, scope.jobs, "job")
    for key, kind, names in (("reports", settings.reports, scope.jobs), ("deletes", settings.deletes, scope.kinds)):
        if kind is not None and scope.known(place.at(key), kind, names, "resource") and kind not in required:
            scope.report.add(place.at(key), f"the {kind} must be the caller's: add it to requires")
    if settings.lists is not None:
        _check_list(settings.lists, pattern, place, scope)
    if settings.public:
        for key in ("requires", "creates", "deletes", "reports", "lists"):
            if getattr(settings, key):
                scope.report.add(place.at(key), "nobody owns what a public route touches: remove public", at_key=True)


def _check_list(settings: ListingSettings, pattern: Pattern, place: Place, scope: Scope) -> None:
    where = place.at("lists")
    scope.known(where.at("resource"), settings.resource, scope.kinds, "resource")
    if pattern.methods != {"GET"}:
        scope.report.add(place.at("match"), "a list is read with GET")
    for name in ("after", "older"):
        if settings.before is None and getattr(settings, name) is not None:
            scope.report.add(where.at(name), f"pages are read on with before, so {name} needs it: add before")
    if settings.limit_default > settings.limit_max:
        message = f"limit_default is more than the limit_max of {settings.limit_max}"
        scope.report.add(where.at("limit_default"), message)
