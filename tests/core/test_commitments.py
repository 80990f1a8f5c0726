"""What an account commits to, month by month."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.commitments import Commitment, amount_in, changed, closed, read, short_of, written
from gateway.core.money import Nanos
from gateway.core.months import following

MONTHS = ["2026-10"]
while len(MONTHS) < 30:
    MONTHS.append(following(MONTHS[-1]))
AMOUNTS = st.sampled_from([0, 0, 300, 500]).map(Nanos)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), AMOUNTS), max_size=12))
def test_each_month_is_closed_once_by_what_was_committed_to_for_it(steps: list[tuple[int, int, Nanos]]) -> None:
    """Time passes, amounts change from this or a later month on, months are closed sooner or later: as a plain list of
    amounts by month says. What is over is never changed, what is closed never comes back, what is kept is read."""
    plain = dict.fromkeys(MONTHS, Nanos(0))
    commitment, now, done = Commitment(), 0, dict[str, Nanos]()
    for passes, ahead, amount in steps:
        now += passes
        commitment = changed(commitment, MONTHS[min(now + ahead, 28)], amount)
        plain |= dict.fromkeys(MONTHS[min(now + ahead, 28) :], amount)
        assert read(written(commitment)) == commitment
        assert all(amount_in(commitment, month) == plain[month] for month in MONTHS[now:29])
        while commitment.closing and commitment.closing < MONTHS[min(now, 28)] and passes != 1:
            month = commitment.closing
            assert month not in done
            done[month] = amount_in(commitment, month)
            commitment = closed(commitment)
        left = {month for month in MONTHS[:29] if plain[month] and month >= (commitment.closing or "9999-12")}
        assert {month for month in MONTHS[:29] if plain[month]} == left | {each for each in done if done[each]}
    assert all(plain[month] == amount for month, amount in done.items())


def test_a_month_is_short_of_what_was_not_charged() -> None:
    """Never below nothing, and never of more than its commitment."""
    assert [short_of(Nanos(500), Nanos(charged)) for charged in (-20, 0, 499, 500, 600)] == [500, 500, 1, 0, 0]


def test_nothing_is_kept_of_nothing() -> None:
    """A commitment that is ended before it began, or whose last month is closed, is none."""
    assert changed(changed(Commitment(), "2026-12", Nanos(5)), "2026-12", Nanos(0)) == Commitment()
    ended = changed(changed(Commitment(), "2026-11", Nanos(5)), "2026-12", Nanos(0))
    assert (ended.closing, closed(ended), written(closed(ended))) == ("2026-11", Commitment(), "")
    later = changed(changed(Commitment(), "2027-01", Nanos(5)), "2026-12", Nanos(3))
    assert later == Commitment(amounts=(("2026-12", Nanos(3)),), closing="2026-12")
