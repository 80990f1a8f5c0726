"""How usage is read and priced, compiled: of whole replies, and of streams of events.

Owns: the shape of it, and what is found out once about the fields that are looked at.
Does not know: YAML, replies (pipeline), prices.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from gateway.core.extract import Field, Sources
from gateway.core.parts import Parts, parts_of
from gateway.core.pricing import ChargeRule, expected_rules
from gateway.core.usage import Measure, never_expected

#: A field's name that JSON writes as it is, or with escapes that begin with `\u00`.
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")
UnknownUsage = Literal["charge_hold", "charge_floor", "charge_estimate", "charge_nothing"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Metering:
    """How usage is read and priced. `unknown_usage` answers "success, but no usage".

    `expected_rules` are the rules as far as estimates go: without the lines of which nothing is ever expected.
    `counted`: measures that count something of the request. What cannot be counted has no price.
    """

    measures: tuple[Measure, ...]
    rules: tuple[ChargeRule, ...]
    unknown_usage: UnknownUsage = "charge_hold"
    reads_reply: bool = True  # some measure, rule or model is read from the reply's body
    expected_rules: tuple[ChargeRule, ...] = field(init=False, repr=False, compare=False)
    counted: tuple[Measure, ...] = field(init=False, repr=False, compare=False)
    #: What counts the parts of a request that estimates ask for.
    parts: Parts | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        counted = (each for each in self.measures if each.count != "value" and each.known_before)
        object.__setattr__(self, "counted", tuple(counted))
        estimates = [measure.estimate for measure in self.measures]
        names = [name for each in estimates for name in each.parts]
        data = [place for each in estimates for place in each.data]
        object.__setattr__(self, "parts", parts_of(names, [read for each in estimates for read in each.read], data))
        object.__setattr__(self, "expected_rules", expected_rules(self.rules, never_expected(self.measures)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """A reply that may be a stream of events (meter sse). Of an event, `reply.x` is the field `x` of its data.

    A request in which `when` is on asks for a stream: `asks` are set in its forwarded body, each by its path. For a
    client that did not say all of them itself, events that report `drops_has`, and `drops_lacks` not or empty, are
    taken out. `end` is the data of the last event. An event in which one of `errors` is on, or whose type is error,
    says that the service failed. `content`: texts that count as delivered (none: all of an event's data), with
    `counts_content` to the byte. `reads`: fields at the top of an event that are kept, each as the last event says it.
    """

    when: Field
    asks: tuple[tuple[tuple[str, ...], Any], ...] = ()
    drops_has: Field | None = None
    drops_lacks: Field | None = None
    end: bytes | None = None
    errors: tuple[Field, ...] = ()
    content: tuple[Field, ...] = ()
    counts_content: bool = False
    reads: frozenset[str] = frozenset()
    event_bytes_max: int = 1024 * 1024
    charge_comment: bool = False
    #: The fields at the top of an event that tell more of it than its size; None where any may.
    looks_at: frozenset[str] | None = field(init=False, repr=False, compare=False)
    #: The fields at the top of an event that are looked at or kept. What finds bytes that may be one of them, with a
    #: value, or that may hide one; None where that is not to be told from bytes.
    told: frozenset[str] = field(init=False, repr=False, compare=False)
    tells: re.Pattern[bytes] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        fields = [*self.errors] if self.drops_has is None else [*self.errors, self.drops_has]
        elsewhere = (self.content and self.counts_content) or any(each.source != "reply" for each in fields)
        names = None if elsewhere else frozenset(str(each.steps[0]) for each in fields)
        told = (names or frozenset()) | self.reads
        tells = None
        if names is not None and all(map(_PLAIN_NAME.fullmatch, told)):
            either = "|".join(sorted(told)).encode()
            tells = re.compile(rb'[\n\r\x00]|\\u00|"(?:%b)"(?!\s*:\s*null)' % either)
        object.__setattr__(self, "looks_at", names)
        object.__setattr__(self, "told", told)
        object.__setattr__(self, "tells", tells)

    def fails(self, sources: Sources) -> bool:
        """Whether a reply, or an event, says that the service failed. Some write an empty error where there is none."""
        return any(field.read(sources) for field in self.errors)

    def passes_over(self, event: Mapping[str, Any]) -> bool:
        """Whether an event has none of the fields that say that the service failed, or that it is to be taken out."""
        return self.looks_at is not None and self.looks_at.isdisjoint(event)

    def told_nothing(self, event: Mapping[str, Any]) -> bool:
        """Whether none of these fields has a value."""
        return self.looks_at is not None and all(event.get(name) is None for name in self.looks_at)
