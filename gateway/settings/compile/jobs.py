"""Jobs: what makes them, how their states are told apart, what they cost.

Owns: what is said of a job. Does not know: the routes that report and delete it (`routes`), prices.
"""

from gateway.core.extract import Field
from gateway.settings.compile.metering import Reading, compile_condition, compile_metering, fields_of
from gateway.settings.compile.products import Made
from gateway.settings.compile.scope import Metered, Scope
from gateway.settings.jobs import Callback, Job, Queue
from gateway.settings.metering import Metering
from gateway.settings.products import Models
from gateway.settings.schema.job import JobSettings


def compile_jobs(made: Made, scope: Scope) -> None:
    """Every job of the product, into `made.jobs`."""
    for kind, settings in made.settings.jobs.items():
        made.jobs[kind] = _job(kind, settings, made, scope)


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
