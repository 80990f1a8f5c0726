"""Which endpoint is asked, and when one is let be."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.endpoints import TRIAL_SECONDS, Ejection, Fitness, failed, fit, ranked, tried

NAMES = st.text("abcxyz-123", min_size=1, max_size=8)
WEIGHTS = st.dictionaries(NAMES, st.integers(1, 1_000_000), min_size=1, max_size=8)


@given(WEIGHTS, st.text(max_size=20))
def test_every_endpoint_has_one_place_and_the_others_keep_theirs_without_it(weights: dict[str, int], key: str) -> None:
    """The order is one of all, the same for one key however the config has them, and no key moves without need."""
    order = ranked(weights, key)
    assert sorted(order) == sorted(weights)
    assert ranked(dict(reversed(weights.items())), key) == order
    first, *others = order
    assert ranked({name: weight for name, weight in weights.items() if name != first}, key) == others


def test_each_comes_first_as_often_as_its_weight_says() -> None:
    """Of 6,000 keys, within four standard deviations."""
    firsts = Counter(ranked({"a": 1, "b": 2, "c": 3}, str(number))[0] for number in range(6000))
    for name, expected in (("a", 1000), ("b", 2000), ("c", 3000)):
        assert abs(firsts[name] - expected) < 4 * (expected * (1 - expected / 6000)) ** 0.5
    seconds = Counter(ranked({"a": 1, "b": 2, "c": 1}, str(number))[1] for number in range(600))
    assert min(seconds[name] for name in "abc") > 60, "what one cannot take is spread over the others"


RULES = Ejection(failures=3, seconds=5.0, seconds_max=60.0)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 100)), max_size=60))
def test_an_endpoint_is_let_be_within_bounds_and_always_comes_back(history: list[tuple[bool, float]]) -> None:
    """Never before so many failures in a row, never for longer than it may be, whatever happens; a success ends it."""
    fitness, now, in_a_row = Fitness(), 0.0, 0
    for fails, pause in history:
        now += pause
        if fit(fitness, now):
            fitness = tried(fitness, now)
        if fails:
            fitness, in_a_row = failed(fitness, now, RULES), in_a_row + 1
        else:
            fitness, in_a_row = Fitness(), 0
        assert fit(fitness, now + RULES.seconds_max + TRIAL_SECONDS)
        assert fitness.ejected is (in_a_row >= RULES.failures)
        assert fitness.ejected or fit(fitness, now)


def test_one_call_in_a_second_tries_an_endpoint_whose_time_is_over() -> None:
    """It is let be for twice as long where that fails; calls that were under way change nothing."""
    fitness, waits = Fitness(), []
    for _ in range(RULES.failures):
        fitness = failed(fitness, 0.0, RULES)
    assert failed(fitness, 0.1, RULES) == fitness, "a call that was under way"
    now = 0.0
    for _ in range(6):
        waits.append(fitness.until - now)
        now = fitness.until
        assert fit(fitness, now) and not fit(fitness, now - 0.001)
        fitness = tried(fitness, now)
        assert not fit(fitness, now) and fit(fitness, now + TRIAL_SECONDS)
        fitness = failed(fitness, now + 0.5, RULES)
        now += 0.5
    assert waits == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]
