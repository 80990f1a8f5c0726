"""The Lua files themselves: each explains itself, and none sets a trap for money."""

import re
from importlib.resources import files

import pytest

from gateway.ledger.lua import ALONE, ENTERING, FIRST, LATE, PRELUDES, read, script
from gateway.ledger.single import SingleLink
from gateway.ports import Renewal
from tests.ledger.ledgers import RedisWorld, admitted, ask, bill, one_at_a_time, opened

VERBS = (*PRELUDES, *ALONE)
SHARED = {*FIRST, *LATE, "known"}.union(*PRELUDES.values())
FILES = sorted(path.name.removesuffix(".lua") for path in (files("gateway.ledger") / "scripts").iterdir())


def code(name: str) -> str:
    """The file without its comments and strings."""
    bare = re.sub(r"--[^\n]*", "", read(name))
    return re.sub(r"'[^'\n]*'", "''", bare)


def test_every_file_is_a_verb_or_a_prelude() -> None:
    """No file lies about unused."""
    assert sorted((*VERBS, *SHARED)) == FILES


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_its_header(verb: str) -> None:
    """What it does, KEYS, ARGV, answers, callers: in this order, before the first line of code."""
    header = re.match(r"(?:--[^\n]*\n)+", read(verb))
    assert header is not None
    assert re.match(
        rf"-- {verb}: .+\n(?:-- .*\n)*--\n-- KEYS  (?:.|\n)+\n-- ARGV  (?:.|\n)+\n-- Answers  (?:.|\n)+\n"
        rf"-- Callers  RedisLedger\.{'verify' if verb == 'state' else verb}(?:, RedisLedger\.\w+)*\n\Z",
        header[0],
    ), header[0]


@pytest.mark.parametrize(
    "verb",
    [
        verb
        for verb in VERBS
        if verb not in {"account", "autopay", "keys", "holds", "jobs", "queued", "deliveries", "watches", *ALONE}
    ],
)
def test_guards_come_first_then_only_writes(verb: str) -> None:
    """After the line that says so, nothing is refused any more."""
    before, line, after = read(verb).partition("-- From here it must succeed: only writes.\n")
    assert line
    bare = re.sub(r"--[^\n]*", "", before)
    assert not re.search(
        r"call\('(?:HSET|HINCRBY|SET|ZADD|ZREM|HDEL|XADD|SADD|EXPIRE)'|add\(|(?:give|close|settle|burn|take)\(", bare
    )
    assert not re.search(r"answer\('(?:refused|conflict|unknown|exists|past|plan|no_key|too_much)'", after)


@pytest.mark.parametrize("name", FILES)
def test_no_double_ever_becomes_money(name: str) -> None:
    """No tostring, no division but of time and of quotas, no number joined to text, no increment but by digits."""
    text = code(name)
    assert "tostring" not in text
    assert "HINCRBYFLOAT" not in read(name)
    for line in text.splitlines():
        if "/" in line:
            assert re.search(r"NOW|time\[|day|year|era|month|elapsed|quota|percent", line), line
    for _, amount in re.findall(r"call\('(HINCRBY|INCRBY)', .*, ([^,)]+)\)", read(name)):
        assert not re.search(r"tonumber|[+*/]", amount), amount


def test_what_an_operation_did_is_exported_at_once() -> None:
    """Every verb that has an operation id changes what sinks are told of."""
    assert {verb for verb, preludes in PRELUDES.items() if "operation" in preludes} <= ENTERING


@pytest.mark.parametrize("verb", VERBS)
async def test_the_server_takes_every_script(link: SingleLink, verb: str) -> None:
    """Each compiles, under the name by which the link will ask for it."""
    assert await link.call("SCRIPT", "LOAD", script(verb).source) == script(verb).sha1.encode()


async def test_the_hot_verbs_do_little(link: SingleLink) -> None:
    """Inside the server an admission is at most 16 commands, a settlement 18, a renewal 32, whatever the grants."""
    ledger = await opened(RedisWorld(link))
    for number in range(30):
        await ledger.grant(operation=f"g{number}", account="acme", kind="goodwill", amount=ask().estimate)
    await admitted(ledger, ask("warm"))
    await ledger.settle(bill("warm"))
    await link.call("CONFIG", "RESETSTAT")
    await admitted(ledger, ask(concurrency=one_at_a_time()))
    inside = await calls_inside(link)
    assert inside <= 16
    await ledger.settle(bill())
    settled = await calls_inside(link)
    assert settled - inside <= 18
    await admitted(ledger, ask("call-2", concurrency=one_at_a_time()))
    inside = await calls_inside(link)
    await ledger.renew(Renewal(settlement=bill("call-2"), request=ask("call-2.1", concurrency=one_at_a_time())))
    assert await calls_inside(link) - inside <= 32


async def calls_inside(link: SingleLink) -> int:
    info = await link.call("INFO", "commandstats")
    assert isinstance(info, bytes)
    counts = re.findall(rb"cmdstat_(\w+)\S*:calls=(\d+)", info)
    return sum(int(count) for name, count in counts if name not in {b"evalsha", b"config", b"info"})
