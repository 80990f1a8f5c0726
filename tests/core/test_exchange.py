"""The life of a call: the table's moves, and that no other changes anything."""

from itertools import product

import pytest

from gateway.core.errors import IllegalMove
from gateway.core.exchange import TABLE, Move, State, after, diagram

ENDS = {State.REFUSED, State.RELEASED, State.SETTLED}


def test_every_state_is_in_the_table() -> None:
    """A state has its moves, if only none."""
    assert set(TABLE) == set(State)
    assert {state for state, moves in TABLE.items() if not moves} == ENDS


@pytest.mark.parametrize(("state", "move"), list(product(State, Move)))
def test_every_move_of_every_state(state: State, move: Move) -> None:
    """What is in the table leads there; what is not raises, and the table is as it was."""
    before = {key: dict(moves) for key, moves in TABLE.items()}
    if move in TABLE[state]:
        assert after(state, move) is TABLE[state][move]
    else:
        with pytest.raises(IllegalMove, match=f"a call that is {state} cannot {move}"):
            after(state, move)
    assert {key: dict(moves) for key, moves in TABLE.items()} == before


def test_every_call_can_end() -> None:
    """From each state there is a way to an end, and every state is reached from the start."""
    reachable, frontier = {State.RECEIVED}, [State.RECEIVED]
    while frontier:
        for target in TABLE[frontier.pop()].values():
            if target not in reachable:
                reachable.add(target)
                frontier.append(target)
    assert reachable == set(State)
    ending = set(ENDS)
    for _ in State:
        ending |= {state for state, moves in TABLE.items() if ending & set(moves.values())}
    assert ending == set(State)


def test_nothing_is_charged_twice() -> None:
    """Nothing follows a settlement or a release, and nothing is charged that was not forwarded."""
    assert TABLE[State.SETTLED] == {} == TABLE[State.RELEASED]
    settling = {state for state, moves in TABLE.items() if Move.SETTLE in moves}
    assert settling == {State.METERED, State.EXPIRED}


def test_the_diagram_has_every_move() -> None:
    """The diagram in the docs is the table."""
    lines = diagram().splitlines()
    moves = sum(len(moves) for moves in TABLE.values())
    assert len(lines) == 2 + moves + len(ENDS)
    assert "    forwarded --> metered: meter" in lines
