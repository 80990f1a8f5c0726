"""What of a request is read before it is forwarded, and what of it is known at all.

Owns: which body is parsed, the fields and query parameters that may be on, those of which one only may stand.
Does not know: what the fields are read for.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from gateway.core.extract import Field, known_tree
from gateway.settings.compile.metering import conditions_of, fields_of, is_by_model
from gateway.settings.compile.scope import Scope
from gateway.settings.jobs import Job
from gateway.settings.metering import Metering
from gateway.settings.problems import Place
from gateway.settings.products import Models
from gateway.settings.schema.route import RouteSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The fields of a route's requests that are read. `priced` is how it is charged, itself or by its job."""

    settings: RouteSettings
    priced: Metering | None
    fields: tuple[Field, ...]

    @classmethod
    def by(cls, settings: RouteSettings, metering: Metering | None, job: Job | None, models: Models | None) -> "Asked":
        """What a route reads for its guards, its estimate and its charge."""
        fields = [requirement.id for requirement in settings.requires]
        fields += [rejection.field for rejection in settings.rejects]
        fields += [settings.stream.when] if settings.stream is not None else ()
        if job is not None and (callback := job.callback) is not None:
            names = (callback.url, callback.header_name, callback.header_value)
            fields += [Field("request", (name,)) for name in names if name is not None]
        priced = job.metering if job is not None else metering
        if priced is not None:
            read = fields_of(priced.measures, priced.rules)
            if job is not None:
                read += job.facts
                read = [Field("request", field.steps) if field.source == "job" else field for field in read]
            fields += read
            for measure in priced.measures:
                fields += measure.estimate.read
            if models is not None and any(is_by_model(rule) for rule in priced.rules):
                fields += [*models.asked, *models.ran]
        return cls(settings=settings, priced=priced, fields=tuple(fields))

    @property
    def of_body(self) -> list[Field]:
        """The fields of the request's body (of a session: of the client's updates)."""
        return [field for field in self.fields if field.source == "request"]

    @property
    def of_resource(self) -> bool:
        """Whether something is read of what is known of a resource that the request names."""
        return any(field.source == "resource" for field in self.fields)

    @property
    def read_parameters(self) -> frozenset[str]:
        """The query parameters that are read."""
        return frozenset(_parameters(self.fields))

    @property
    def switch_parameters(self) -> frozenset[str]:
        """Those that are read for nothing but whether they are on: they may stand more than once, as lists do."""
        if self.priced is None:
            return frozenset()
        plain = [condition for condition in conditions_of(self.priced.rules) if not condition.equals]
        switches = Counter(_parameters(field for condition in plain for field in condition.fields))
        read = Counter(_parameters(self.fields))
        return frozenset(name for name, times in switches.items() if times == read[name])

    @property
    def read_fields(self) -> frozenset[str]:
        """The fields of the body, by their top name, of which anything is read."""
        return frozenset(str(field.steps[0]) for field in self.of_body)

    def body(self, place: Place, scope: Scope) -> Literal["json", "stream"]:
        """How the request's body is taken."""
        settings = self.settings
        if settings.session is not None:
            return "stream"  # a handshake has none
        first = next(iter(self.of_body), None)
        parts = self.priced.parts if self.priced is not None else None
        needed = first is not None or settings.free_fields is not None or parts is not None
        if settings.body == "stream" and needed:
            why = f"{first} is read" if first is not None else "free_fields or parts are looked for"
            scope.report.add(place.at("body"), f"{why}, and a streamed body is not parsed: write body: json")
        return settings.body or ("json" if needed else "stream")

    def known_fields(self, place: Place, scope: Scope) -> dict[str, Any] | None:
        """The tree of the body's fields that may be on; None: all."""
        settings = self.settings
        if settings.free_fields is not None:
            told = [] if settings.session is None else [settings.session.frames.type_field]
            read = [_object_path(field) for field in self.of_body if not self._free_around(field)]
            return known_tree([*settings.free_fields, *told, *read])
        if any(field.source in ("request", "job") and field.steps[0] != "usage" for field in self._switches()):
            message = (
                "charges depend on what the request switches on: list the other fields in free_fields, "
                "so that none is free by accident"
            )
            scope.report.add(place, message, at_key=True)
        return None

    def _free_around(self, field: Field) -> bool:
        """Whether an estimate reads it in what is free as a whole: that stays so."""
        around = (".".join(map(str, field.steps[:end])) for end in range(1, len(field.steps)))
        return field in self._expected and any(path in (self.settings.free_fields or ()) for path in around)

    @property
    def _expected(self) -> set[Field]:
        """The fields that only estimates read."""
        if self.priced is None:
            return set()
        of_estimates = {field for measure in self.priced.measures for field in measure.estimate.read}
        return of_estimates - set(fields_of(self.priced.measures, self.priced.rules))

    def known_parameters(self, place: Place, scope: Scope) -> frozenset[str] | None:
        """The query parameters that may be on; None: all."""
        settings = self.settings
        if settings.free_parameters is not None:
            ours = () if settings.session is None else settings.session.dropped_parameters
            return self.read_parameters.union(settings.free_parameters, ours)
        if settings.job is None and any(field.source == "query" for field in self._switches()):
            message = (
                "charges depend on what the query switches on: list the other parameters in free_parameters, "
                "so that none is free by accident"
            )
            scope.report.add(place, message, at_key=True)
        return None

    def _switches(self) -> Iterable[Field]:
        """The fields that decide which lines are charged."""
        if self.priced is None:
            return ()
        return (field for condition in conditions_of(self.priced.rules) for field in condition.fields)


def _parameters(fields: Iterable[Field]) -> list[str]:
    """The names of the query's fields among these."""
    return [str(field.steps[0]) for field in fields if field.source == "query"]


def _object_path(field: Field) -> str:
    """The path as far as it leads through objects."""
    steps: list[str] = []
    for step in field.steps:
        if isinstance(step, int) or step == "*":
            break
        steps.append(step)
    return ".".join(steps)
