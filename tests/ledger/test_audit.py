"""The contract of `ports.Ledger`: the log of what administrators did."""

import asyncio

import pytest

from gateway.core.errors import LedgerRefused
from gateway.ledger import rules
from gateway.ledger.redis import RedisLedger
from gateway.ledger.single import SingleLink
from gateway.ports import AuditLine, Plan
from tests.ledger import ledgers
from tests.ledger.ledgers import World

world, cluster_url = ledgers.world, ledgers.cluster_url  # fixtures


def line(number: int, account: str = "") -> AuditLine:
    about = {"key": f"k{number}"}
    return AuditLine(deed=f"d{number}", actor="ops", action="POST /x", outcome="begun", account=account, about=about)


async def test_lines_are_told_newest_first_page_by_page(world: World) -> None:
    """Every line comes back as it was written, once, whatever the size of the pages; and of one account alone."""
    for number in range(7):
        await world.ledger.audit(line(number, "acme" if number % 2 else "other"))
    found: list[AuditLine] = []
    for size in (1, 2, 3, 7, 100):
        found = []
        before = ""
        while page := await world.ledger.audited(before=before, limit=size):
            found += page
            before = page[-1].id
        assert [one.deed for one in found] == [f"d{number}" for number in reversed(range(7))]
    assert (found[0].actor, found[0].action, found[0].about, found[0].account) == (
        "ops",
        "POST /x",
        {"key": "k6"},
        "other",
    )
    assert found[0].at_ms > 0
    of_one = await world.ledger.audited(account="acme", limit=2)
    assert [one.deed for one in of_one] == ["d5", "d3"]
    assert [one.deed for one in await world.ledger.audited(account="acme", before=of_one[-1].id)] == ["d1"]
    assert await world.ledger.audited(before="0-0") == []
    assert await world.ledger.audited(account="nobody") == []
    for wrong in ("x", "1", "1-2-3"):
        with pytest.raises(LedgerRefused):
            await world.ledger.audited(before=wrong)


async def test_two_changes_of_one_account_lose_neither(world: World) -> None:
    """Tier, rate card and status that are changed at once are all changed: a change writes only what it names."""
    await world.ledger.open_account(operation="o", account="acme", plan=Plan(tier="free"))
    await asyncio.gather(
        world.ledger.change_account(operation="a", account="acme", tier="payg"),
        world.ledger.change_account(operation="b", account="acme", rate_card="charity"),
        world.ledger.change_account(operation="c", account="acme", status="suspended"),
    )
    account = await world.ledger.account("acme")
    assert (account.plan, account.status) == (Plan(tier="payg", rate_card="charity"), "suspended")
    account = await world.ledger.change_account(operation="d", account="acme", rate_card="")
    assert account.plan == Plan(tier="payg")


async def test_the_log_is_bounded(link: SingleLink) -> None:
    """The oldest lines make room: the store keeps the bound, or a node of its stream more."""
    fill = "for i = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', 'old', i) end"
    await link.call("EVAL", fill, 1, "gw:audit", rules.AUDIT_LINES_MAX + 500)
    ledger = RedisLedger(link)
    await ledger.audit(line(1))
    length = await link.call("XLEN", "gw:audit")
    assert isinstance(length, int)
    assert rules.AUDIT_LINES_MAX <= length < rules.AUDIT_LINES_MAX + 150
    assert [one.deed for one in await ledger.audited(limit=1)] == ["d1"]
