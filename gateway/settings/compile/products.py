"""Products, their jobs and routes.

Owns: what belongs to what (a job to the routes that make, report and delete it).
Does not know: prices, tiers, what of a request is read (`asked`), sockets (`sessions`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.core.extract import Field
from gateway.core.money import ZERO, Nanos
from gateway.core.pricing import Condition
from gateway.core.upstreams import Upstream
from gateway.settings.compile.asked import Asked
from gateway.settings.compile.errors import compile_errors, compile_not_found
from gateway.settings.compile.metering import Reading, check_parameter, compile_condition, compile_metering, fields_of
from gateway.settings.compile.scope import Metered, Scope
from gateway.settings.compile.sessions import check_socket, compile_mint, compile_session
from gateway.settings.compile.streams import check_stream, compile_stream
from gateway.settings.jobs import Callback, Job, Queue
from gateway.settings.metering import Metering
from gateway.settings.problems import Place
from gateway.settings.products import NO_UPSTREAM, Models, Product, WithoutLedger
from gateway.settings.resources import Creation, Injection, Listing, Requirement
from gateway.settings.routes import Rejection, Route
from gateway.settings.routing import Pattern, parse_pattern
from gateway.settings.schema.product import (
    JobSettings,
    LedgerAwaySettings,
    ListingSettings,
    ProductSettings,
    RouteSettings,
)

#: So many accounts may reach their bound without the ledger, unless the config says how much that is in all.
_ACCOUNTS_AT_ONCE: Final = 100
#: Of a route that nothing is found by: it is named over the credit API.
NO_PATTERN: Final = Pattern(methods=frozenset(), host=None, segments=(), parameters=())
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
    upstream = NO_UPSTREAM
    if settings.upstream is not None:
        scope.known(place.at("upstream"), settings.upstream, scope.upstream_names, "upstream")
        nowhere = Upstream(name=settings.upstream, base_url="", credential="")  # only to find the other problems
        upstream = scope.upstreams.get(settings.upstream, nowhere)
    product = Product(
        name=settings.product,
        title=settings.title,
        upstream=upstream,
        errors=errors,
        models=models,
        strip_reply_fields=tuple(settings.strip_reply_fields),
        metered_body_bytes_max=settings.metered_body_bytes_max,
        whole_body_bytes_max=settings.whole_body_bytes_max,
        drain_seconds_max=settings.drain_seconds_max,
        drain_bytes_max=settings.drain_bytes_max,
        without_ledger=_without_ledger(settings.on_ledger_unavailable, place.at("on_ledger_unavailable"), scope),
        queues=any(job.queue is not None for job in settings.jobs.values()),
        on_unsettled=settings.on_unsettled,
        refuses_us_when=_refuses_us_when(settings, place.at("refuses_us_when"), scope),
        dropped_query=frozenset(
            name for route in settings.routes if route.session for name in route.session.dropped_parameters
        ),
    )
    made = Made(settings=settings, place=place, product=product)
    for kind, job in settings.jobs.items():
        made.jobs[kind] = _job(kind, job, made, scope)
    return made


def _refuses_us_when(settings: ProductSettings, place: Place, scope: Scope) -> Condition | None:
    when = settings.refuses_us_when
    for index, read in enumerate(when.fields if when is not None else ()):
        if read.source == "job":
            scope.report.add(place.at("any", index), f"{read} is not what the service answers: write reply.x")
    return compile_condition(when, place, Reading(of_job=True), scope)


def _without_ledger(settings: LedgerAwaySettings, place: Place, scope: Scope) -> WithoutLedger | None:
    account, in_all = settings.allow_up_to or ZERO, settings.in_all
    if in_all is not None and in_all < account:
        scope.report.add(place.at("in_all"), "is less than `allow_up_to`: no account could reach that")
    if in_all is not None and not account:
        scope.report.add(place.at("in_all"), "bounds nothing without `allow_up_to`")
    if not account:
        return None
    return WithoutLedger(account=account, in_all=Nanos(account * _ACCOUNTS_AT_ONCE) if in_all is None else in_all)


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
        dated=models.dated,
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
    required = [{requirement.resource for requirement in route.requires} for route in routes]
    reading = Reading(
        of_job=True,
        required=tuple(set.intersection(*required) if required else scope.audio_kinds),
        fixed_hold=bool(routes) and all(route.hold is not None for route in routes),
    )
    metering = compile_metering(settings, place, reading, models, scope)
    scope.metered.append(Metered(place=place, product=made.product.name, metering=metering, models=models))
    return Job(
        kind=kind,
        product=made.product.name,
        id=settings.id,
        status=settings.status,
        completed=frozenset(settings.completed),
        failed=frozenset(settings.failed),
        content=tuple(settings.content),
        look=settings.look,
        seconds_max=settings.seconds_max,
        metering=metering,
        facts=_facts(metering, models),
        look_first_seconds=settings.look_first_seconds,
        look_seconds_max=settings.look_seconds_max,
        gone_statuses=frozenset(settings.gone_statuses),
        gone_when=compile_condition(settings.gone_when, place.at("gone_when"), reading, scope),
        gone_seconds=settings.gone_seconds,
        gone=settings.gone,
        callback=None if settings.callback is None else Callback(**dict(settings.callback)),
        queue=None if settings.queue is None else Queue(**dict(settings.queue)),
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
        pattern = NO_PATTERN if settings.match is None else parse_pattern(settings.match, settings.host)
    except ValueError as error:
        scope.report.add(place.at("match"), str(error))
        return None
    _check_forwarding(settings, product, place, scope)
    _check_meter(settings, place, scope)
    _check_resources(settings, pattern, place, scope)
    check_socket(settings, pattern, place, scope)
    check_stream(settings, product, place, scope)
    required = tuple(requirement.resource for requirement in settings.requires)
    metering = None
    if settings.meter in ("fixed", "response", "sse", "session", "reported"):
        reading = Reading(
            parameters=pattern.parameters,
            required=required,
            fixed_hold=settings.hold is not None,
            session=settings.session,
            reported=settings.meter == "reported",
        )
        metering = compile_metering(settings, place, reading, product.models, scope)
        scope.metered.append(Metered(place=place, product=product.name, metering=metering, models=product.models))
    job = jobs.get(settings.job or "")
    if job is not None and job.product != product.name:
        scope.report.add(place.at("job"), f"the job {job.kind} belongs to the product {job.product}: make it there")
        job = None
    asked = Asked.by(settings, metering, job, product.models)
    injects = _injects(settings, place, scope)
    body = asked.body(place, scope)
    if settings.creates is not None and settings.creates.audio and body != "stream":
        scope.report.add(place.at("creates", "audio"), "audio is read as it passes, and this body is JSON: remove it")
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
        creates=None
        if settings.creates is None
        else Creation(
            kind=settings.creates.resource,
            field=settings.creates.id,
            keep_seconds=settings.creates.keep_seconds,
            audio=settings.creates.audio,
        ),
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
    return Listing(
        kind=settings.resource,
        items=settings.items,
        id=settings.id,
        url=settings.url,
        limit=settings.limit,
        limit_default=settings.limit_default,
        limit_max=settings.limit_max,
        before=settings.before,
        after=settings.after,
        day=settings.day,
        count=settings.count,
        shown_limit=settings.shown_limit,
        current=settings.current,
        older=settings.older,
        newer=settings.newer,
        pages_max=settings.pages_max,
    )


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
