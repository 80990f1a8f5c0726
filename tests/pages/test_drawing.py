"""What pages make of numbers: words and charts."""

import pytest

from gateway.edge.pages import wording
from gateway.edge.pages.chart import draw, scale


@pytest.mark.parametrize(
    ("nanos", "rounded", "exact", "signed"),
    [
        (0, "$0.00", "$0.00", "$0.00"),
        (119_998_677_000, "$119.99", "$119.998677", "+$119.998677"),
        (175_000, "$0.00", "$0.000175", "+$0.000175"),
        (1, "$0.00", "$0.000000001", "+$0.000000001"),
        (-1, "−$0.01", "−$0.000000001", "−$0.000000001"),
        (-12_500_000_000, "−$12.50", "−$12.50", "−$12.50"),
        (9_000_000_000_000_000, "$9,000,000.00", "$9,000,000.00", "+$9,000,000.00"),
    ],
)
def test_amounts_for_people(nanos: int, rounded: str, exact: str, signed: str) -> None:
    """A rounded amount is never more than there is; an exact one loses nothing."""
    assert (wording.usd(nanos), wording.usd_exact(nanos), wording.usd_signed(nanos)) == (rounded, exact, signed)


def test_what_was_spent_is_rounded_to_the_cent() -> None:
    """Half up, both ways; what is less than a cent is told whole, and a scale's amounts are short."""
    given = {0: "$0.00", 9_999_999: "$0.009999999", 14_999_999: "$0.01", 15_000_000: "$0.02", -15_000_000: "−$0.02"}
    assert {nanos: wording.usd_near(nanos) for nanos in given} == given
    assert [wording.usd_short(nanos) for nanos in (0, 2_000_000_000, 500_000_000)] == ["$0", "$2", "$0.50"]


def test_times_for_people() -> None:
    """Days, minutes and spans, all UTC."""
    ms = 1_795_772_462_000
    assert wording.iso(ms) == "2026-11-27T09:41:02Z"
    assert (wording.date(ms), wording.date_time(ms)) == ("27 Nov 2026", "27 Nov 2026, 09:41 UTC")
    assert (wording.day("2026-11-07"), wording.month("2026-11-07"), wording.month("2026-11")) == (
        "7 Nov", "Nov 2026", "Nov 2026",
    )  # fmt: skip
    spans = {-1.0: "0 s", 59.9: "59 s", 61.0: "1 min", 7200.0: "2 h", 200_000.0: "2 d"}
    assert {seconds: wording.span(seconds) for seconds in spans} == spans
    gauges = {
        "a_bytes": (3e6, "2.9 MiB"),
        "a_nanos": (1e9, "$1.00"),
        "a_seconds": (0.0000045, "0"),
        "a": (2e7, "20,000,000"),
    }
    gauges |= {"a_timestamp_seconds": (ms / 1000, "27 Nov 2026, 09:41 UTC"), "b_timestamp_seconds": (0, "never")}
    assert {name: (value, wording.gauge(value, name)) for name, (value, _) in gauges.items()} == gauges


def test_words_for_people() -> None:
    """Names of ours become English, quantities get their thousands."""
    assert (wording.spoken("grant_expiry"), wording.spoken("standard")) == ("Grant expiry", "Standard")
    assert wording.per_unit("1.75 per_1m_tokens") == "$1.75 per 1M tokens"
    assert wording.per_unit("0.21 per_hour -10%") == "$0.21 per hour, less 10%"
    assert (wording.units("token", "1"), wording.units("token", "62")) == ("token", "tokens")
    assert [wording.quantity(each) for each in ("1234567", "1234.50", 12, "1e5")] == [
        "1,234,567",
        "1,234.50",
        "12",
        "1e5",
    ]


def test_a_scale_is_round_and_covers_everything() -> None:
    """Steps of 1, 2 or 5, at most five of them, and never less than the most."""
    for most in (0, 1, 4, 5, 6, 99, 100, 101, 12_345, 999_999_999, 10**12):
        ticks = scale(most, 1)
        assert ticks[0] == 0
        assert ticks[-1] >= most
        assert 2 <= len(ticks) <= 6
        step = ticks[1]
        assert step // 10 ** (len(str(step)) - 1) in (1, 2, 5)
        assert ticks == [step * number for number in range(len(ticks))]


def test_bars_stand_on_one_another_within_the_chart() -> None:
    """Each box is as high as its value, begins where the one below ends, and nothing leaves the view box."""
    chart = draw(["a", "b", "c"], [[1, 0, 3], [2, 0, 4]], width=300, height=120, label_every=2, unit=1)
    first, empty, last = chart.bars
    assert (first.label, empty.label, last.label) == ("a", "", "c")
    assert empty.boxes == ()
    lower, upper = last.boxes
    assert lower.y == pytest.approx(upper.y + upper.height, abs=0.02)
    assert lower.height / upper.height == pytest.approx(3 / 4, rel=0.01)
    assert lower.y + lower.height == pytest.approx(chart.bottom, abs=0.02)
    for bar in chart.bars:
        for box in bar.boxes:
            assert chart.left <= box.x and box.x + box.width <= chart.right and 0 <= box.y <= chart.bottom


def test_a_chart_of_nothing_is_empty() -> None:
    """No days or no values at all draw axes and no boxes."""
    assert draw([], [], width=300, height=120, label_every=5, unit=1).bars == ()
    assert draw(["a"], [[0]], width=300, height=120, label_every=5, unit=1).bars[0].boxes == ()
