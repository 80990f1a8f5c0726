"""Usage: billable quantities as they were reported, which know "not reported" from zero.

Owns: what a usable quantity is, how the measures of a meter are read, how an estimate is made before forwarding.
Does not know: prices.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cached_property, lru_cache
from typing import Any, Final, Literal

from gateway.core.extract import REPLY_SOURCES, Field, Places, Sources, first_reported
from gateway.core.parts import SOURCE as PART
from gateway.core.parts import without_data
from gateway.core.record import record

#: Whole units (seconds, tokens, characters, calls), or an exact decimal where the upstream reports a fraction.
Quantity = int | Decimal

#: A quantity above this is nobody's usage (30 million years of audio); it counts as not reported.
QUANTITY_MAX: Final = 10**15

_TEXT: Final = re.compile(r"[0-9]{1,16}(\.[0-9]{1,30})?")


def quantity(value: Any) -> Quantity | None:
    """A reported value as an exact quantity; None for what no upstream can mean (negative, NaN, text, too large)."""
    if type(value) is int:
        return value if 0 <= value <= QUANTITY_MAX else None
    if type(value) is float:
        # The shortest decimal that reads back as this float is what stood in the JSON text.
        value = Decimal(repr(value))
    elif type(value) is str and _TEXT.fullmatch(value):  # headers are text, and so are a record's exact decimals
        value = Decimal(value) if "." in value else int(value)
        if type(value) is int:
            return quantity(value)
    if isinstance(value, Decimal) and value.is_finite() and 0 <= value <= QUANTITY_MAX:
        return value
    return None


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """How much of a measure to expect before anything is known: the first of what is given.

    `fields` are read from the request, or from what is known of a resource that it names: the largest counts, for the
    service may heed any of them, and zero says nothing. `size` is how many bytes that has: divided by
    `bytes_per_unit_min` (rounding up) where no field says anything, and by `bytes_per_unit_max` for the least that a
    field may say. `request_bytes_per_unit` divides the body's length (rounding up). `default` is used where nothing
    says anything. The fields of `plus`, and `parts` (name -> so many units for each), come on top of it; the bytes of
    the data that parts have in `data` do not count then. It is no less than `minimum`. `maximum` bounds what a request
    may claim of each, and `times` says how many it asks for. Where `when` is given and not on, it is `otherwise`.
    `content_bytes_per_unit` is for afterwards: `known_usage`.
    """

    fields: tuple[Field, ...] = ()
    size: tuple[Field, ...] = ()
    bytes_per_unit_min: int = 1
    bytes_per_unit_max: int = 1
    when: tuple[Field, ...] = ()
    otherwise: int = 0
    request_bytes_per_unit: int | None = None
    content_bytes_per_unit: int | None = None
    default: int = 0
    minimum: int = 0
    maximum: int | None = None
    times: tuple[Field, ...] = ()
    plus: tuple[Field, ...] = ()
    parts: Mapping[str, int] = field(default_factory=dict, hash=False)
    data: tuple[Field, ...] = ()

    @cached_property
    def read(self) -> tuple[Field, ...]:
        """Every field that it is read from."""
        return (*self.fields, *self.size, *self.when, *self.times, *self.plus)

    @cached_property
    def without_parts(self) -> "Estimate":
        """The same for a request that has no parts that anybody asks for."""
        if self.when and all(each.source == PART for each in self.when):
            return Estimate(default=self.otherwise)
        return replace(self, parts={}, data=()) if self.parts else self

    @cached_property
    def constant(self) -> int | None:
        """The quantity, where no request changes it."""
        if self.read or self.parts or self.request_bytes_per_unit is not None:
            return None
        found = max(self.default, self.minimum)
        return found if self.maximum is None else min(found, self.maximum)

    @cached_property
    def by_size(self) -> bool:
        """Whether the request's size alone says it."""
        return self.request_bytes_per_unit is not None and not (self.read or self.parts or self.minimum)

    def of_sizes(self, request_bytes: int, content_bytes: int) -> Quantity:
        """What the size of the request and of the delivered content say; without them, nothing was used."""
        found = 0
        if self.request_bytes_per_unit is not None:
            found = -(-request_bytes // self.request_bytes_per_unit)
        elif self.content_bytes_per_unit is not None:
            found = -(-content_bytes // self.content_bytes_per_unit)
        return found if self.maximum is None else min(found, self.maximum)

    def of(self, sources: Sources, request_bytes: int) -> Quantity:
        """The expected quantity, in the measure's unit."""
        if self.when and not first_reported(self.when, sources):
            return self.otherwise
        said = (_claim(field, sources) for field in self.fields)
        found = max((claim for claim in said if claim), default=None)
        size = quantity(first_reported(self.size, sources)) if self.size else None
        if size is not None:
            per_unit = self.bytes_per_unit_min if found is None else self.bytes_per_unit_max
            found = max(found or 0, -(-int(size) // per_unit))
        if found is None and self.request_bytes_per_unit is not None:
            read = without_data(request_bytes, sources) if self.data else request_bytes
            found = -(-read // self.request_bytes_per_unit)
        if found is None:
            found = self.default
        for each in self.plus:
            found += _claim(each, sources)
        counts = sources.get(PART) or {}
        found += sum(units * counts[name] for name, units in self.parts.items() if name in counts)
        found = max(found, self.minimum)
        if self.maximum is not None and found > self.maximum:
            found = self.maximum
        if self.times:
            found *= max(1, int(quantity(first_reported(self.times, sources)) or 1))
        return found


def _claim(field: Field, sources: Sources) -> Quantity:
    """What a field claims: zero where it says nothing. What a client says and is no quantity is as much as may be, for
    nobody knows how the service reads it: -1, and a number that is too large, are no bound to some.
    """
    value = field.read(sources)
    found = quantity(value)
    if found is None and value and field.source not in (PART, "resource"):
        return QUANTITY_MAX
    return found or 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Measure:
    """Where one quantity comes from, once the upstream has answered.

    `count` says how text or a list becomes a number: its characters (code points), UTF-8 bytes, or items.
    A measure with a `default` is optional; without, its absence makes the usage unknown. A report of less than `least`
    counts as that, one of more than `most` as none. `clock`: of a session, the seconds that its socket was open by our
    clock, until the upstream reports them.
    """

    name: str
    fields: tuple[Field, ...]
    count: Literal["value", "characters", "bytes", "items"] = "value"
    default: int | None = None
    least: int = 0
    most: int = QUANTITY_MAX
    clock: bool = False
    estimate: Estimate

    @cached_property
    def known_before(self) -> bool:
        """Whether it is read from the request alone, so that no estimate is needed."""
        return not self.clock and all(field.source not in REPLY_SOURCES for field in self.fields)

    def read(self, sources: Sources) -> Quantity | None:
        """The reported quantity, the default where nothing is reported, else None."""
        return self.judged(first_reported(self.fields, sources))

    def bounded(self, found: Quantity | None) -> Quantity | None:
        """What a quantity counts as: no less than the least, and nothing if it is more than the most."""
        return max(found, self.least) if found is not None and found <= self.most else None

    def judged(self, value: Any) -> Quantity | None:
        """What a reported value counts as."""
        if value is None:
            return self.default
        if self.count == "value":
            return self.bounded(quantity(value))
        if self.count == "items":
            return len(value) if type(value) is list else None
        if type(value) is not str:
            return None
        return len(value) if self.count == "characters" else len(value.encode(errors="surrogatepass"))


@record
class Usage:
    """What one call used: measure name -> quantity. `missing` names the measures that were not reported."""

    quantities: Mapping[str, Quantity]
    missing: tuple[str, ...] = ()

    @property
    def reported(self) -> bool:
        """Whether every required measure was reported (a zero is a report)."""
        return not self.missing


def read_usage(measures: tuple[Measure, ...], sources: Sources) -> Usage:
    """The usage that the sources report."""
    quantities: dict[str, Quantity] = {"calls": 1}
    missing: list[str] = []
    for measure, value in zip(measures, _places(measures).read(sources), strict=True):
        if type(value) is int and measure.least <= value <= measure.most and measure.count == "value":  # the rule
            quantities[measure.name] = value
        elif (found := measure.judged(value)) is not None:
            quantities[measure.name] = found
        else:
            missing.append(measure.name)
    return Usage(quantities=quantities, missing=tuple(missing))


@lru_cache(maxsize=1024)
def _places(measures: tuple[Measure, ...]) -> Places:
    return Places.of([measure.fields for measure in measures])


def estimate_usage(measures: tuple[Measure, ...], sources: Sources, request_bytes: int) -> Usage:
    """The usage to expect, from the request alone."""
    constant, varying = _split(measures)
    quantities = constant.copy()
    for measure in varying:
        known = measure.read(sources) if measure.known_before else None
        quantities[measure.name] = measure.estimate.of(sources, request_bytes) if known is None else known
    return Usage(quantities=quantities)


def known_usage(measures: tuple[Measure, ...], usage: Usage, request_bytes: int, content_bytes: int) -> Usage:
    """What is known of a usage that was not all reported: the reports that there are, and what the sizes say.

    Of the request a size is always known, so it comes first; without content (0 bytes) this is the least that was used.
    """
    quantities = dict(usage.quantities)
    for measure in measures:
        if measure.name in usage.missing:
            quantities[measure.name] = measure.estimate.of_sizes(request_bytes, content_bytes)
    return Usage(quantities=quantities)


def never_expected(measures: tuple[Measure, ...]) -> frozenset[str]:
    """The measures of which no estimate expects anything."""
    return frozenset(name for name, expected in _split(measures)[0].items() if not expected)


@lru_cache(maxsize=1024)
def _split(measures: tuple[Measure, ...]) -> tuple[dict[str, Quantity], tuple[Measure, ...]]:
    """What every request is expected to use alike (one call among it), and the measures that differ."""
    constant: dict[str, Quantity] = {"calls": 1}
    varying: list[Measure] = []
    for measure in measures:
        if not measure.known_before and measure.estimate.constant is not None:
            constant[measure.name] = measure.estimate.constant
        else:
            varying.append(measure)
    return constant, tuple(varying)
