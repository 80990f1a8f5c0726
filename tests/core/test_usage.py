"""Usage: what counts as a report, and what to expect before there is one."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.extract import Field
from gateway.core.usage import QUANTITY_MAX, Estimate, Measure, estimate_usage, quantity, read_usage


def fields(*texts: str) -> tuple[Field, ...]:
    """Compiled fields."""
    return tuple(map(Field.parse, texts))


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (0, 0), (7, 7), (QUANTITY_MAX, QUANTITY_MAX), (QUANTITY_MAX + 1, None), (-1, None), (True, None), (False, None),
        (0.1, Decimal("0.1")), (14.084401, Decimal("14.084401")), (1e15, Decimal("1e15")), (1e16, None), (-0.5, None),
        (float("nan"), None), (float("inf"), None), ("12", 12), ("0", 0), ("12.50", Decimal("12.50")), ("-1", None),
        ("1e3", None), (" 1", None), ("", None), ("9" * 17, None), ("٣", None), (None, None), ([], None), ({}, None),
        (Decimal("0.5"), Decimal("0.5")), (Decimal("NaN"), None), (Decimal("-1"), None), (Decimal("Infinity"), None),
    ],
)  # fmt: skip
def test_quantity(value: object, found: object) -> None:
    """Whole numbers stay whole, fractions become the decimal that was written, the rest is no report."""
    result = quantity(value)
    assert result == found
    assert type(result) is type(found)


@given(st.floats())
def test_no_float_comes_out(value: float) -> None:
    """Whatever a reply's number is, what is charged is exact."""
    result = quantity(value)
    assert result is None or (isinstance(result, Decimal) and float(result) == value)


@given(st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers()) | st.binary())
def test_quantity_never_raises(value: object) -> None:
    """An upstream may send anything."""
    found = quantity(value)
    assert found is None or 0 <= found <= QUANTITY_MAX


MEASURE = Measure(name="m", fields=fields("reply.a", "reply.b.0"), estimate=Estimate())


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ({"a": 5}, 5), ({"a": 0, "b": [3]}, 0), ({"a": None, "b": [3]}, 3), ({"b": [3]}, 3), ({"b": []}, None),
        ({"a": "x"}, None), ({"a": -1, "b": [3]}, None), (None, None), ([], None), ("x", None),
    ],
)  # fmt: skip
def test_the_first_report_counts(reply: object, found: int | None) -> None:
    """Null and absent are no report, zero is one; an unusable report is not mended by the next field."""
    usage = read_usage((MEASURE,), {"reply": reply})
    assert usage.quantities.get("m") == found
    assert usage.reported == (found is not None)
    assert usage.missing == (() if found is not None else ("m",))


@pytest.mark.parametrize(
    ("count", "value", "found"),
    [
        ("characters", "Grüße 🙂", 7), ("bytes", "Grüße 🙂", 12), ("bytes", "\ud800", 3), ("characters", "", 0),
        ("items", [1, 2], 2), ("items", "ab", None), ("characters", 5, None), ("bytes", ["a"], None), ("value", 5, 5),
    ],
)  # fmt: skip
def test_counts(count: Any, value: object, found: int | None) -> None:
    """Text is counted in characters or bytes, lists in items; of anything else there is no count."""
    measure = Measure(name="m", fields=fields("request.x"), count=count, estimate=Estimate())
    assert measure.read({"request": {"x": value}}) == found


def test_a_default_makes_a_measure_optional() -> None:
    """With a default, absence is usage; a call is always one call."""
    measure = Measure(name="m", fields=fields("reply.x"), default=1, estimate=Estimate())
    usage = read_usage((measure,), {"reply": {}})
    assert usage.quantities == {"calls": 1, "m": 1}
    assert usage.reported


@pytest.mark.parametrize(
    ("request_", "size", "expected"),
    [
        ({"max": 50}, 10, 50), ({}, 10, 4), ({"max": None}, 9, 3), ({"max": "x"}, 0, 1000), ({"max": 10**9}, 1, 1000),
        ({"max": 50, "n": 3}, 1, 150), ({"max": 50, "n": 0}, 1, 50), ({"max": 900, "n": 2}, 1, 1800),
        ({"max": 10**9, "n": 3}, 1, 3000),
        ({"max": 50, "n": 2.9}, 1, 100), ({"max": 50, "n": "many"}, 1, 50), ({"max": True}, 3, 1000), ([], 3, 1),
    ],
)  # fmt: skip
def test_estimates(request_: object, size: int, expected: int) -> None:
    """The request's own number first, then its size, never more than the maximum, as often as is asked for."""
    estimate = Estimate(
        fields=fields("request.max"), request_bytes_per_unit=3, maximum=1000, times=fields("request.n")
    )  # fmt: skip
    assert estimate.of({"request": request_}, size) == expected


def test_the_default_estimate() -> None:
    """Where neither field nor size says anything, the default does."""
    assert Estimate(default=7).of({}, 1000) == 7
    assert Estimate(fields=fields("request.x"), default=7).of({"request": {}}, 1000) == 7


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        ({"bytes": 1000, "seconds": 20}, 20),
        ({"bytes": 1001, "seconds": 9}, 11),
        ({"bytes": 1000}, 100),
        ({"bytes": 9999}, 500),
        ({"bytes": 0}, 0),
        ({"seconds": 10**9}, 500),
        ({"seconds": "soon", "bytes": 55}, 6),
        ({}, 7),
        (None, 7),
    ],
)
def test_estimates_by_a_resource(resource: object, expected: int) -> None:
    """What it says, and no less than its bytes at the highest rate; else its bytes at the lowest; else the default."""
    estimate = Estimate(
        fields=fields("resource.seconds"), size=fields("resource.bytes"), bytes_per_unit_min=10,
        bytes_per_unit_max=100, default=7, maximum=500,
    )  # fmt: skip
    assert estimate.of({"resource": resource}, 1) == expected


@pytest.mark.parametrize(("on", "expected"), [(True, 6), (1, 6), (False, 1), (0, 1), (None, 1)])
def test_an_estimate_that_depends(on: object, expected: int) -> None:
    """Where the request does not ask for it, nothing of it is expected but what there always is."""
    estimate = Estimate(fields=fields("resource.channels"), when=fields("request.multichannel"), otherwise=1)
    assert estimate.of({"request": {"multichannel": on}, "resource": {"channels": 6}}, 0) == expected
    assert estimate.constant is None


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ({}, 10), ({"part": {"picture": 2}}, 24), ({"part": {"other": 9}}, 10), ({"request": {"budget": 50}}, 60),
        ({"request": {"budget": 50}, "part": {"picture": 1, "data_bytes": 12}}, 63), ({"request": {"budget": -1}}, 99),
        ({"request": {"budget": 60}, "part": {"picture": 9}}, 99), ({"part": {"picture": 1, "data_bytes": 30}}, 8),
    ],
)  # fmt: skip
def test_what_comes_on_top(sources: dict[str, Any], expected: int) -> None:
    """Parts and budgets come on top of what the size says, data of parts not; all within its bounds."""
    estimate = Estimate(
        request_bytes_per_unit=3, plus=fields("request.budget"), parts={"picture": 7}, data=fields("request.content.*"),
        minimum=8, maximum=99,
    )  # fmt: skip
    assert estimate.of(sources, 30) == expected


def test_what_the_request_tells_is_not_estimated() -> None:
    """A measure that is read from the request alone is exact before the call is forwarded."""
    told = Measure(name="t", fields=fields("request.text"), count="characters", estimate=Estimate(default=99))
    unknown = Measure(name="u", fields=fields("reply.x", "request.x"), estimate=Estimate(default=5))
    usage = estimate_usage((told, unknown), {"request": {"text": "abc", "x": 1}}, 100)
    assert usage.quantities == {"calls": 1, "t": 3, "u": 5}
    assert estimate_usage((told,), {"request": {}}, 100).quantities["t"] == 99


@pytest.mark.parametrize(
    ("request_", "expected"),
    [({"a": 5, "b": 900}, 900), ({"a": 900, "b": 5}, 900), ({"a": 0, "b": 0}, 70), ({"a": 0, "b": 3}, 3), ({}, 70),
     ({"a": "x", "b": 3}, 1000), ({"a": 10**9}, 1000), ({"a": 10**40}, 1000), ({"a": -1}, 1000), ({"a": "+9"}, 1000),
     ({"a": None, "b": True}, 1000), ({"a": "", "b": False}, 70)],
)  # fmt: skip
def test_the_largest_claim_is_expected(request_: dict[str, Any], expected: int) -> None:
    """Two fields may say it, and the service heeds one of them: zero says nothing,
    and what is no quantity may be no bound to the service.
    """
    estimate = Estimate(fields=fields("request.a", "request.b"), default=70, maximum=1000)
    assert estimate.of({"request": request_}, 0) == expected
