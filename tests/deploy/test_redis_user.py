"""A user of Redis with the rights that docs/operating/deploy.md gives it."""

from pathlib import Path

import pytest

from gateway.core.money import parse_usd
from gateway.ledger.epoch import Memory
from gateway.ledger.link import LinkError, LinkSettings
from gateway.ledger.single import SingleLink
from tests.harness import ROOT, running
from tests.pipeline.helpers import chat

PASSWORD = "a-long-password"


async def test_the_rights_of_the_page_are_enough_and_no_more(tmp_path: Path, empty_redis: str) -> None:
    """A gateway finds Redis fit, opens accounts, charges and proves its books as this user, who reaches no more."""
    page = (ROOT / "docs" / "operating" / "deploy.md").read_text()
    (line,) = (line for line in page.splitlines() if line.startswith("user gateway "))
    root = SingleLink(LinkSettings(url=empty_redis))
    await root.open()
    try:
        await root.call("ACL", "SETUSER", *line.split()[1:])
        url = empty_redis.replace("://", f"://gateway:{PASSWORD}@", 1)
        async with running(tmp_path, url) as gw:
            assert not (await gw.ledger.condition(Memory(tmp_path, url, "gw"))).faults
            got = await chat(gw, await gw.open_account("a", credit="10"))
            assert got.status == 200
            account = await gw.ledger.account("a")
            assert account.balance == parse_usd("10") - parse_usd(got.headers["X-Gateway-Charge"])
            assert not await gw.ledger.verify("a")
        theirs = SingleLink(LinkSettings(url=url))
        await theirs.open()
        for command in (["FLUSHALL"], ["KEYS", "*"], ["CONFIG", "GET", "*"], ["ACL", "LIST"], ["GET", "other:key"]):
            with pytest.raises(LinkError, match="NOPERM"):
                await theirs.call(*command)
        await theirs.close()
    finally:
        await root.call("ACL", "DELUSER", "gateway")
        await root.close()
