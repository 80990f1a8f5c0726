"""The meter of a session: slices add up to what the session costs, whatever happens between."""

from decimal import Decimal
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.extract import Field
from gateway.core.money import Nanos
from gateway.core.pricing import ChargeRule, Condition, PriceTable, make_price
from gateway.core.upstreams import Upstream
from gateway.core.usage import Estimate, Measure
from gateway.pipeline.session_meter import SessionMeter
from gateway.pipeline.session_slices import first_early, outlook
from gateway.settings.metering import Metering
from gateway.settings.products import ErrorStyle, Product

MEASURES = (
    Measure(
        name="session_seconds",
        fields=(Field.parse("frame.session_duration_seconds"),),
        clock=True,
        estimate=Estimate(default=10),
    ),
)
RULES = (
    ChargeRule(sku="session", quantity="session_seconds"),
    ChargeRule(sku="extra", quantity="session_seconds", when=Condition(fields=(Field.parse("request.extra"),))),
)
METERING = Metering(measures=MEASURES, rules=RULES)
PRODUCT = Product(
    name="stream", title="Stream", upstream=Upstream(name="u", base_url="http://u", credential="c"),
    errors=ErrorStyle(body={}),
)  # fmt: skip


def prices(version: str = "1", session: str = "0.15", extra: str = "0.04") -> PriceTable:
    """A price table of the two lines, per hour."""
    made = {sku: make_price(sku, "per_hour", usd) for sku, usd in (("session", session), ("extra", extra))}
    return PriceTable(version=version, rate_card="standard", prices=made)


def meter(sources: dict[str, Any], table: PriceTable | None = None) -> SessionMeter:
    """A meter that began at 100."""
    made = SessionMeter(METERING, PRODUCT, sources, table or prices())
    made.begin(100.0)
    return made


def cost(milliseconds: int, per_hour: str) -> int:
    """What so much time costs, rounded once, half up."""
    exact = Decimal(per_hour) * 10**9 * milliseconds / 3_600_000
    return int(exact.to_integral_value(rounding="ROUND_HALF_UP"))


@given(st.lists(st.integers(1, 40_000), min_size=1, max_size=12))
def test_slices_by_the_clock_add_up_to_one_rounding(steps: list[int]) -> None:
    """However often a session is renewed, it costs what its whole time costs, rounded once."""
    found, now, total = meter({}), 0, 0
    for step in steps:
        now += step
        charge, back = found.take(100 + now / 1000, basis="clock")
        assert back == 0
        assert charge.amount == sum(item.amount for item in charge.items)
        total += charge.amount
    assert total == cost(now, "0.15")
    assert found.charged == total


@given(st.lists(st.integers(1, 40_000), min_size=1, max_size=8), st.integers(0, 400))
def test_the_report_at_the_end_corrects_everything_before(steps: list[int], reported: int) -> None:
    """What was charged, less what is given back, is the price of the reported seconds to the nano-dollar."""
    sources: dict[str, Any] = {}
    found, now, total = meter(sources), 0.0, 0
    for step in steps:
        now += step / 1000
        charge, back = found.take(100 + now, basis="clock")
        total += charge.amount - back
    sources["frame"] = {"session_duration_seconds": reported}
    charge, back = found.take(100 + now, basis="reported")
    total += charge.amount - back
    assert total == cost(reported * 1000, "0.15")


def test_an_add_on_costs_from_when_it_is_switched_on() -> None:
    """A change splits the usage: the time before is priced as it was, the time after with the add-on."""
    sources: dict[str, Any] = {}
    found = meter(sources)
    sources["request"] = {"extra": True}
    found.change(130.0)
    charge, _ = found.take(160.0, basis="clock")
    by_sku = {item.sku: (item.quantity, item.amount) for item in charge.items}
    assert by_sku == {"session": ("60", 2_500_000), "extra": ("30", 333_333)}


def test_a_price_change_splits_the_usage_and_both_parts_say_their_price() -> None:
    """Seconds before the change are charged by the old list, those after it by the new one."""
    found = meter({})
    found.change(110.0, prices("2", session="0.30"))
    charge, _ = found.take(130.0, basis="clock")
    assert [(item.quantity, item.unit_price, item.amount) for item in charge.items] == [
        ("10", "0.15 per_hour", 416_667),
        ("20", "0.30 per_hour", 1_666_667),
    ]
    assert charge.price_version == "2"


def test_a_report_that_ends_before_a_split_takes_the_later_segment_away() -> None:
    """The upstream says 15 seconds, of which 10 were at the old price: 5 at the new one are left."""
    sources: dict[str, Any] = {}
    found = meter(sources)
    found.change(110.0, prices("2", session="0.30"))
    first, _ = found.take(130.0, basis="clock")
    sources["frame"] = {"session_duration_seconds": 15}
    last, back = found.take(131.0, basis="reported")
    assert last.amount == 0
    assert first.amount - back == 416_667 + 416_667


def test_a_hold_is_the_most_that_its_slice_costs() -> None:
    """With a cap, the charge and its items are exactly the cap, and what was waived is not given back later."""
    sources: dict[str, Any] = {}
    found = meter(sources)
    charge, _ = found.take(120.5, most=Nanos(833_333), basis="clock")
    assert charge.amount == sum(item.amount for item in charge.items) == 833_333
    sources["frame"] = {"session_duration_seconds": 20}
    again, back = found.take(121.0, most=Nanos(0), basis="reported")
    assert (again.amount, back) == (0, 0)


def test_a_session_that_never_began_costs_nothing() -> None:
    """Before the upstream says that it began, no clock runs."""
    found = SessionMeter(METERING, PRODUCT, {}, prices())
    charge, back = found.take(500.0, basis="clock")
    assert (charge.amount, back, found.begun) == (0, 0, False)


def test_what_is_known_at_the_beginning_holds_from_the_beginning() -> None:
    """An add-on that stands in the handshake is charged for every second."""
    found = meter({"request": {"extra": True}})
    charge, _ = found.take(136.0, basis="clock")
    assert {item.sku: item.amount for item in charge.items} == {"session": 1_500_000, "extra": 400_000}


class _Spec:
    slice_seconds, renew_before_seconds, warn_seconds = 10.0, 2.0, 15.0


def test_a_whole_slice_is_renewed_before_it_ends_and_the_last_one_at_its_end() -> None:
    """Whoever has credit is never late; whoever has none is cut when what was held is used up."""
    rate = meter({}).per_second()
    spec: Any = _Spec()
    whole = outlook(now=0.0, per_second=rate, left=416_667, available=10**9, whole=True, session=spec)
    assert 7.99 < whole.renew_at < 8.01
    last = outlook(now=0.0, per_second=rate, left=416_667, available=0, whole=False, session=spec)
    assert 9.99 < last.renew_at == last.covered_until < 10.01
    assert last.low_at < 0


def test_sessions_that_open_together_renew_apart() -> None:
    """A thousand first slices of one moment are renewed evenly over their second half, none too late."""
    rate, spec, slice_seconds = meter({}).per_second(), cast("Any", _Spec()), 10.0
    found = [0] * 5
    for number in range(1000):
        early = first_early(f"0123456789abcdef{number:08x}", slice_seconds)
        due = outlook(now=0.0, per_second=rate, left=416_667, available=10**9, whole=True, session=spec, early=early)
        assert 2.99 < due.renew_at <= due.covered_until - spec.renew_before_seconds
        found[int(due.renew_at - 3)] += 1
    assert min(found) > 150
    last = outlook(now=0.0, per_second=rate, left=416_667, available=0, whole=False, session=spec, early=4.0)
    assert last.renew_at == last.covered_until


def test_what_multiplies_counts_as_expected_until_it_is_reported() -> None:
    """Channels that the client asks for are paid from the first second, and tell when the credit is gone."""
    channels = Measure(
        name="channels", fields=(Field.parse("frame.channels"),), default=1, least=1,
        estimate=Estimate(
            fields=(Field.parse("query.channels"),), when=(Field.parse("query.multichannel"),), otherwise=1, default=1
        ),
    )  # fmt: skip
    rules = (ChargeRule(sku="session", quantity="session_seconds", times="channels"),)
    metering = Metering(measures=(*MEASURES, channels), rules=rules)
    asked = {"query": {"channels": "4", "multichannel": True}}
    for sources, times in (
        ({}, 1),
        ({"query": {"channels": "4"}}, 1),
        (asked, 4),
        ({**asked, "frame": {"channels": 3}}, 3),
    ):
        found = SessionMeter(metering, PRODUCT, sources, prices())
        found.begin(100.0)
        assert found.owed(110.0) == cost(times * 10_000, "0.15")
        assert round(found.per_second() * 10) == cost(times * 10_000, "0.15")
