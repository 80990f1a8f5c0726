"""One meter at the prices of one table and one model, written out as straight-line code.

Owns: the quick way to the results of `usage` and `pricing`, which stay the specification: a hypothesis test holds the
two together. Each function answers None where a call is not the plain case (a quantity is not whole, not reported or
without a price), and whoever asked then takes the long way.
Does not know: when a call is charged, and what becomes of unknown usage.

The long way loops over measures, fields and rules, which are the same for every call. Here the loops have been run
once, and what they would have done is a Python function: a quarter of the work.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import lru_cache
from typing import Any, Final, Protocol

from gateway.core.extract import Field, Sources, first_reported, plain_path
from gateway.core.money import Nanos
from gateway.core.parts import SOURCE as PART
from gateway.core.pricing import Charge, ChargeRule, LineItem, Price, PriceTable, Rules, expected_rules
from gateway.core.usage import QUANTITY_MAX, Estimate, Measure, never_expected

#: Meters x tables x models: a bound that no config in good faith reaches.
_TARIFFS_MAX: Final = 10_000
#: No plain call uses more than this many bits of a unit: a little less than `QUANTITY_MAX`.
_WHOLE_BITS: Final = 49

Measures = tuple[Measure, ...]


class Meter(Protocol):
    """See `settings.runtime.Metering`. Hashed by identity."""

    @property
    def measures(self) -> Measures: ...
    @property
    def rules(self) -> Rules: ...
    @property
    def expected_rules(self) -> Rules: ...


class Tariff:
    """`charge(sources)` is a success's charge, `estimate(sources, request_bytes)` what is expected of it."""

    __slots__ = ("charge", "estimate")

    def __init__(self, meter: Meter, table: PriceTable, model: str) -> None:
        self.charge = _Source(meter.measures, table, model).charge(meter.rules)
        self.estimate = _Source(meter.measures, table, model).estimate(meter.expected_rules)


@lru_cache(maxsize=_TARIFFS_MAX)
def tariff(meter: Meter, table: PriceTable, model: str) -> Tariff:
    """The tariff, worked out when it is first asked for. Meters and tables are told by identity: it costs a look-up."""
    return Tariff(meter, table, model)


class _Source:
    """The text of a function, as it grows. Names: `o3` is an object of a source, `q3` a measure's quantity."""

    def __init__(self, measures: Measures, table: PriceTable, model: str) -> None:
        self.measures = measures
        self.table = table
        self.model = model
        self.lines: list[str] = []
        self.objects: dict[tuple[str, ...], str] = {(): "sources"}
        #: What is known of quantities by name. Those of other names are never used.
        self.quantities = {"calls": "1", **{measure.name: f"q{n}" for n, measure in enumerate(measures)}}
        self.values: dict[str, Any] = {
            "Charge": Charge, "LineItem": LineItem, "first_reported": first_reported, "nothing": {},
            "new": object.__new__,
        }  # fmt: skip

    def charge(self, rules: Rules) -> Callable[[Sources], Charge | None]:
        """`read_usage` and then `charge_for`."""
        for number, measure in enumerate(self.measures):
            self.read(f"q{number}", number, measure)
        self.add("total = 0", "items = []")
        for number, rule in enumerate(rules):
            self.charge_rule(number, rule, item=True)
        self.record("charge", Charge, amount="total", items="tuple(items)", price_version=repr(self.table.version),
                    rate_card=repr(self.table.rate_card), basis="'reported'")  # fmt: skip
        self.add("return charge")
        made: Callable[[Sources], Charge | None] = self.made("sources")
        return made

    def estimate(self, rules: Rules) -> Callable[[Sources, int], Nanos | None]:
        """`estimate_usage` and then `amount_for`."""
        usual = tuple(replace(each, estimate=each.estimate.without_parts) for each in self.measures)
        if any(one.estimate is not other.estimate for one, other in zip(usual, self.measures, strict=True)):
            self.add(f"if {PART!r} in sources: return None")
            rules = expected_rules(rules, never_expected(usual))
        used = {name for rule in rules for name in (rule.quantity, rule.times, *rule.minus)}
        for number, measure in enumerate(usual):
            if measure.name not in used:
                continue
            if measure.known_before:
                self.value(f"e{number}", measure.estimate)
                self.read(f"q{number}", number, measure, otherwise=f"e{number}.of(sources, request_bytes)")
            elif measure.estimate.constant is not None:
                self.add(f"q{number} = {measure.estimate.constant}")
            elif measure.estimate.by_size:
                self.add(f"q{number} = -(-request_bytes // {measure.estimate.request_bytes_per_unit})")
                self.at_most(f"q{number}", measure.estimate.maximum)
            elif not self.claimed(f"q{number}", measure.estimate):
                self.value(f"e{number}", measure.estimate)
                self.add(f"q{number} = e{number}.of(sources, request_bytes)")
                self.add(f"if type(q{number}) is not int: return None")
        self.add("total = 0")
        for number, rule in enumerate(rules):
            self.charge_rule(number, rule, item=False)
        self.add("return total")
        made: Callable[[Sources, int], Nanos | None] = self.made("sources, request_bytes")
        return made

    # ---- one measure

    def read(self, name: str, number: int, measure: Measure, otherwise: str | None = None) -> None:
        """`Measure.read`; `otherwise` is what counts where nothing is reported."""
        default = otherwise if measure.default is None else measure.default
        if measure.count != "value" or not self.first_of(name, measure.fields):
            self.value(f"m{number}", measure)
            self.add(f"{name} = m{number}.judged(first_reported(m{number}.fields, sources))")
            if otherwise is not None:
                self.add(f"if {name} is None: {name} = {otherwise}")
            self.add(f"if type({name}) is not int: return None")
            return
        if default is None:
            self.whole(name, measure.least, measure.most)
            return
        self.add(f"if {name} is None: {name} = {default}")
        # What a request says of it is any number; what the settings say is as it should be.
        self.whole(name, measure.least, measure.most, "if" if measure.default is None else "elif")

    def claimed(self, name: str, estimate: Estimate) -> bool:
        """`Estimate.of`, where fields of plain objects say it; False, and nothing is written, where other things do."""
        other = estimate.size or estimate.when or estimate.request_bytes_per_unit is not None or estimate.minimum
        if other or len(estimate.times) > 1 or not 0 < len(estimate.fields) <= 2:
            return False
        if not all(map(plain_path, (*estimate.fields, *estimate.times, *estimate.plus))):
            return False
        self.first_of(name, estimate.fields[:1])
        if len(estimate.fields) > 1:
            self.first_of("t", estimate.fields[1:])
            self.add(f"if {name} is None: {name} = t", "elif t is not None: return None")
        self.add(f"if not {name}: {name} = {estimate.default}")
        self.whole(name)
        for path in filter(None, map(plain_path, estimate.plus)):
            self.add(f"if {path[1]!r} in {self.object_of(path[:1])}: return None")
        self.at_most(name, estimate.maximum)
        if estimate.times:
            self.first_of("t", estimate.times)
            self.add("if t is not None:", f"    if type(t) is not int or t > {QUANTITY_MAX}: return None")
            self.add(f"    if t > 1: {name} *= t")
        return True

    def at_most(self, name: str, maximum: int | None) -> None:
        """What a request may claim."""
        if maximum is not None:
            self.add(f"if {name} > {maximum}: {name} = {maximum}")

    def whole(self, name: str, least: int = 0, most: int = QUANTITY_MAX, when: str = "if") -> None:
        """What is no whole number within bounds goes the long way."""
        outside = f"not {least} <= {name} <= {most}"
        if (least, most) == (0, QUANTITY_MAX):  # a shift tells both ends at once: what is larger is rare
            outside = f"{name} >> {_WHOLE_BITS}"
        self.add(f"{when} type({name}) is not int or {outside}: return None")

    def first_of(self, name: str, fields: Sequence[Field]) -> bool:
        """`first_reported`; False, and nothing is written, where one is not in plain objects."""
        paths = [plain_path(field) for field in fields]
        for place, path in enumerate(paths if None not in paths else ()):
            assert path is not None, "looked at above"
            reading = f"{name} = {self.object_of(path[:-1])}.get({path[-1]!r})"
            self.add(reading if place == 0 else f"if {name} is None: {reading}")
        return None not in paths

    def object_of(self, path: tuple[str, ...]) -> str:
        """The name of the object at a path, which is read once."""
        name = self.objects.get(path)
        if name is None:
            parent = self.object_of(path[:-1])
            name = self.objects[path] = f"o{len(self.objects)}"
            self.add(f"{name} = {parent}.get({path[-1]!r})", f"if type({name}) is not dict: {name} = nothing")
        return name

    # ---- one line of the charge

    def charge_rule(self, number: int, rule: ChargeRule, *, item: bool) -> None:
        """One turn of the loops of `charge_for` and `amount_for`."""
        said = self.quantities.get(rule.quantity)
        if said is None or not rule.fits(self.model):
            return
        for less in rule.minus:
            if less in self.quantities:
                less = self.quantities[less]
                self.add(f"q = {said} - {less} if {said} > {less} else 0")
                said = "q"
        if rule.times is not None and rule.times in self.quantities:
            self.add(f"q = {said} * {self.quantities[rule.times]}")
            said = "q"
        on = said
        if rule.when is not None:
            self.value(f"w{number}", rule.when)
            on = f"{said} and w{number}.met(sources)"
        price = rule.price(self.table, self.model)
        if price is None:
            self.add(f"if {on}: return None")
            return
        self.add(f"if {on}:", f"    amount = {_amount(said, price)}", "    total += amount")
        if item:
            self.record("    item", LineItem, sku=repr(price.sku), quantity=f"str({said})", unit=repr(price.unit),
                        unit_price=repr(price.listed), amount="amount")  # fmt: skip
            self.add("    items.append(item)")

    # ---- the text

    def add(self, *lines: str) -> None:
        self.lines += lines

    def record(self, name: str, kind: type, **said: str) -> None:
        """A record, field by field: a constructor sorts its keywords anew in each call."""
        assert said.keys() == {each.name for each in fields(kind)}, f"all fields of {kind.__name__}"
        self.add(f"{name} = new({kind.__name__})", *(f"{name}.{field} = {value}" for field, value in said.items()))

    def value(self, name: str, value: Any) -> None:
        """Something that the function uses as it is."""
        self.values[name] = value

    def made(self, parameters: str) -> Any:
        """The function. Every name of the config stands in it as a literal (`!r`), never as code."""
        body = "\n    ".join(self.lines)
        exec(f"def function({parameters}):\n    {body}\n", self.values)  # noqa: S102 - of our own text
        return self.values["function"]


def _amount(quantity: str, price: Price) -> str:
    """`Price.amount` of a whole quantity."""
    return f"({quantity} * {2 * price.numerator} + {price.denominator}) // {2 * price.denominator}"
