"""Tariffs: what is written out ahead gives what the loops over measures and rules give, or nothing at all."""

import pickle
from dataclasses import dataclass
from typing import Any, Literal

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.extract import Field
from gateway.core.pricing import (
    ChargeRule,
    Condition,
    PriceTable,
    Rules,
    amount_for,
    charge_for,
    expected_rules,
    make_price,
)
from gateway.core.tariff import tariff
from gateway.core.usage import Estimate, Measure, estimate_usage, never_expected, read_usage

NAMES = ("a", "b", "c")
COUNTS: tuple[Literal["value", "characters", "items"], ...] = ("value", "value", "value", "characters", "items")
FIELDS = [
    Field.parse(text)
    for text in (
        "reply.usage.a", "reply.usage.b", "reply.a", "reply.usage.more.c", "request.a", "request.n", "request.more.b",
        "reply.list.0.a", "reply_header.x-a", "job.usage.c", "part.picture",
    )
]  # fmt: skip
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 2000), st.just(10**16), st.floats(0, 100), st.text("7x.", max_size=3),
    st.lists(st.integers(0, 3), max_size=2),
)  # fmt: skip
OBJECTS = st.dictionaries(st.sampled_from([*NAMES, "n"]), VALUES, max_size=4)
BODIES = st.builds(
    lambda top, usage, more, rows: {**top, "usage": usage, "more": more, "list": rows},
    OBJECTS,
    st.one_of(OBJECTS, VALUES, st.builds(lambda usage, more: {**usage, "more": more}, OBJECTS, OBJECTS | VALUES)),
    OBJECTS | VALUES,
    st.lists(OBJECTS, max_size=1) | VALUES,
)
SOURCES = st.fixed_dictionaries(
    {"request": BODIES | VALUES, "reply": BODIES | VALUES},
    optional={
        "job": BODIES,
        "reply_header": st.just({"x-a": "5"}),
        "part": st.dictionaries(st.sampled_from(["picture", "file", "data_bytes"]), st.integers(1, 3), min_size=1),
    },
)
SOME_FIELDS = st.lists(st.sampled_from(FIELDS), max_size=2).map(tuple)
IF_A_PART = st.just((Field.parse("part.picture"),))
ESTIMATES = st.builds(
    Estimate,
    fields=SOME_FIELDS,
    request_bytes_per_unit=st.none() | st.integers(1, 5),
    default=st.integers(0, 1000),
    maximum=st.none() | st.integers(0, 500),
    times=st.just(()) | st.just((Field.parse("request.n"),)),
    size=st.just(()) | SOME_FIELDS,
    bytes_per_unit_min=st.integers(1, 3),
    bytes_per_unit_max=st.integers(3, 9),
    when=st.just(()) | SOME_FIELDS | IF_A_PART,
    otherwise=st.integers(0, 3),
    plus=st.just(()) | SOME_FIELDS,
    parts=st.just({}) | st.just({"picture": 7, "file": 11}),
    data=st.just(()) | st.just((Field.parse("request.list.*"),)),
    minimum=st.just(0) | st.integers(0, 400),
)
MEASURES = st.tuples(
    *(
        st.builds(
            Measure,
            name=st.just(name),
            fields=st.lists(st.sampled_from(FIELDS), min_size=1, max_size=2).map(tuple),
            count=st.sampled_from(COUNTS),
            default=st.none() | st.integers(0, 3),
            least=st.just(0) | st.integers(0, 3),
            most=st.just(10**15) | st.integers(3, 50),
            estimate=ESTIMATES,
        )
        for name in NAMES
    )
)
RULES = st.lists(
    st.builds(
        ChargeRule,
        sku=st.sampled_from(["{model}.one", "two", "gap"]),
        fallback_sku=st.sampled_from([None, "two"]),
        quantity=st.sampled_from([*NAMES, "calls", "elsewhere"]),
        times=st.sampled_from([None, *NAMES, "elsewhere"]),
        minus=st.lists(st.sampled_from([*NAMES, "elsewhere"]), max_size=2).map(tuple),
        when=st.none() | st.builds(Condition, fields=SOME_FIELDS, equals=st.just(()) | st.just(("7",))),
        only_models=st.just(()) | st.just(("m",)),
        not_models=st.just(()) | st.just(("m",)),
    ),
    max_size=4,
).map(tuple)
PRICES = {
    "m.one": make_price("m.one", "per_1m_tokens", "0.0035", "7.5"),
    'it\'s "two".one': make_price('it\'s "two".one', "per_hour", "0.21"),
    "two": make_price("two", "per_unit", "0.000000001"),
}
TABLE = PriceTable(version="v'1", rate_card='c"', prices=PRICES)
MODELS = ("m", 'it\'s "two"', "unheard of")


@dataclass(frozen=True, kw_only=True, eq=False)
class Metered:
    """What a tariff is made of."""

    measures: tuple[Measure, ...]
    rules: Rules

    @property
    def expected_rules(self) -> Rules:
        return expected_rules(self.rules, never_expected(self.measures))


METERS = st.builds(Metered, measures=MEASURES, rules=RULES)


@given(METERS, SOURCES, st.sampled_from(MODELS))
def test_a_charge_is_that_of_the_long_way(meter: Metered, sources: dict[str, Any], model: str) -> None:
    """Whatever a reply says: the same items and sum, or nothing; in the plain case never nothing."""
    usage = read_usage(meter.measures, sources)
    expected = charge_for(meter.rules, usage, sources, model, TABLE) if usage.reported else None
    found = tariff(meter, TABLE, model).charge(sources)
    if found is not None:
        assert found == expected
        assert type(found.amount) is int
    else:
        whole = all(type(quantity) is int for quantity in usage.quantities.values())
        raised = any(m.least and usage.quantities.get(m.name, m.least + 1) <= m.least for m in meter.measures)
        assert not (usage.reported and whole and not raised and expected is not None and hasattr(expected, "items"))


@given(METERS, SOURCES, st.integers(0, 5000), st.sampled_from(MODELS))
def test_an_estimate_is_that_of_the_long_way(
    meter: Metered, sources: dict[str, Any], request_bytes: int, model: str
) -> None:
    """Whatever a request asks for: the same amount, or nothing."""
    usage = estimate_usage(meter.measures, sources, request_bytes)
    found = tariff(meter, TABLE, model).estimate(sources, request_bytes)
    if found is not None:
        assert found == amount_for(meter.expected_rules, usage, sources, model, TABLE)
        assert type(found) is int


def test_a_tariff_is_worked_out_once() -> None:
    """The same meter, table and model give the same functions; another table gives its own."""
    measure = Measure(name="a", fields=(FIELDS[0],), estimate=Estimate(default=2))
    meter = Metered(measures=(measure,), rules=(ChargeRule(sku="two", quantity="a"),))
    assert tariff(meter, TABLE, "m") is tariff(meter, TABLE, "m")
    dearer = PriceTable(version="v2", rate_card="c", prices={"two": make_price("two", "per_unit", "1")})
    assert tariff(meter, TABLE, "m").estimate({}, 0) == 2
    assert tariff(meter, dearer, "m").estimate({}, 0) == 2_000_000_000


def test_a_table_that_was_used_goes_to_another_process() -> None:
    """Settings are sent to workers after samples were priced: what was worked out for them stays behind."""
    measure = Measure(name="a", fields=(FIELDS[0],), estimate=Estimate())
    meter = Metered(measures=(measure,), rules=(ChargeRule(sku="two", quantity="a"),))
    tariff(meter, TABLE, "m")
    charge_for(meter.rules, read_usage(meter.measures, {"reply": {"usage": {"a": 3}}}), {}, "m", TABLE)
    copy: PriceTable = pickle.loads(pickle.dumps(TABLE))
    assert copy.prices == TABLE.prices
    other = (ChargeRule(sku="m.one", quantity="a"),)
    copy.plans[id(other), "m"] = (meter.rules, ((meter.rules[0], None),))  # as if the id had been those rules' there
    assert copy.priced(other, "m") == ((other[0], PRICES["m.one"]),)
