"""The simulator: histories without a fault in them, and faults that it must find."""

import secrets
import sys
from collections.abc import Callable

import pytest

from gateway.ledger.lua import PRELUDES, script
from tests.sim.shrink import Stage
from tests.sim.simulation import Failed, a_server, simulate

OPERATIONS = 10_000
STEPS_MAX = 15
HAPPENED = (
    *("doubled", "kill", "reload", "reply-lost", "request-lost", "server-killed", "writes-lost", "owed", "free"),
    *("accept accepted", "admit queued", "begin_payment begun", "bury buried", "claim_deliveries claimed"),
    *("claim_queued claimed", "commit committed", "correct corrected", "credit_payment credited", "enqueue queued"),
    *("grant_monthly given", "keep_answer kept", "name_call done", "post posted", "put_off put_off", "refund refunded"),
    *("reject rejected", "renew renewed", "reverse_payment reversed", "submit_later later", "submitted submitted"),
    *("take_volume taken", "use_once used"),
)


def without(line: str, instead: str) -> Callable[[str], str]:
    """The scripts with one line of theirs changed."""
    return lambda source: source.replace(line, instead)


@pytest.mark.parametrize("seed", [23, None], ids=["fixed seed", "fresh seed"])
async def test_a_history_of_faults_loses_and_doubles_nothing(
    seed: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lines that lose and double, processes and servers that are killed: every invariant holds after every step."""
    happened = HAPPENED if seed is None else (*HAPPENED, "close_month closed")
    seed = secrets.randbits(32) if seed is None else seed
    with capsys.disabled():
        sys.stdout.write(f"[seed {seed}]")
    told = await simulate(seed, OPERATIONS)
    assert not [what for what in happened if not told[what]], told


async def test_a_seed_is_a_history() -> None:
    """The same seed does the same, to the last operation; another does something else."""
    first, again, other = [await simulate(seed, 300) for seed in (7, 7, 8)]
    assert first == again != other


MISTAKES = {
    "charges are forgotten": ("call('SET', ending, '1 s", "call('HMGET', ACCOUNT, '1 s", "charged twice"),
    "holds are not counted": ("local most = balance - held", "local most = balance", "overspent"),
    "holds beyond credit": (
        "return nil, estimate <= most and ARGV[4] or amount(most)", "return nil, ARGV[4]", "overspent"
    ),
    "held grows": ("call('HINCRBY', ACCOUNT, 'held', '-' .. held)", "", "held"),
    "places leak": ("call('HINCRBY', ACCOUNT, 'open.' .. class, -1)", "", "counted"),
    "debt stays": ("owed = add(ACCOUNT, 'debt', '-' .. paid)", "owed = '0'", "debt"),
    "operations are forgotten": (
        "call('SET', KEYS[7], '1 ' .. ARGV[2] .. ' ' .. cjson", "call('HMGET', ACCOUNT, cjson", "twice|otherwise"
    ),
    "usage is lost": ("call('HINCRBY', usage, line, charge)", "", "usage is not what was charged"),
    "keys get nothing back": ("count_back(KEYS[8], ARGV[4])", "", "a key has spent something else"),
    "refunds are not counted": ("call('HINCRBY', KEYS[9], ARGV[4], given)", "", "more came back"),
    "payments are forgotten": (
        "unpack(call('HMGET', PAYMENT, 'amount', 'grant', 'record', 'left'), 1, 4)", "nil", "entered twice"
    ),
    "more goes back than was paid": ("return math.min(sum, tonumber(paid))", "return sum", "brought something else"),
    "autopay pays for nothing": ("if balance >= tonumber(facts('threshold')) then", "if false then", "should not"),
    "volumes are taken twice": (
        "call('SET', KEYS[8], '1 ' .. ARGV[2] .. ' ' .. before", "call('HMGET', ACCOUNT, before", "answer"
    ),
    "alerts are not remembered": ("its.told == '' and token or its.told .. ' ' .. token", "its.told", "crossings"),
    "the last is the first": ("'queue:' .. class, 0, 0)[1]", "'queue:' .. class, -1, -1)[1]", "not in its turn"),
    "places are not looked at": ("return not places or open < places", "return true", "more jobs than places"),
    "deliveries are everybody's": ("amount(NOW + ARGV[3]), id)", "amount(NOW), id)", "within another's lease"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_a_mistake_in_a_script_is_found(mistake: str) -> None:
    """Each mistake ends the history with its seed and a short history that shows it, on this script and no other."""
    line, instead, found = MISTAKES[mistake]
    source = without(line, instead)
    assert any(line in script(verb).source for verb in PRELUDES), "no script has this line any more"
    with pytest.raises(Failed, match=found) as caught:
        await simulate(5, 4 * OPERATIONS, source=source)
    assert "--seed 5" in str(caught.value)
    shortest = caught.value.shortest
    assert 0 < len(shortest) < STEPS_MAX, str(caught.value)
    async with a_server() as (_, link):
        again = await Stage(link, source).play(shortest)
        assert again is not None and again[0] == len(shortest) - 1
        assert again[1].rule in str(caught.value)
        assert await Stage(link).play(shortest) is None
