"""The administrators, and customers at their billing page: grants, plans, keys, corrections, refunds, autopay, alerts.

Owns: what each changes; that a change is tried until its outcome is known. Does not know: what goes wrong meanwhile.
"""

from functools import partial

from gateway.core.money import NANOS_PER_USD, Nanos
from gateway.core.months import month_of
from gateway.ports import Key, Watch
from tests.sim.bank import BANK
from tests.sim.configs import AUTOPAY, COMMITTED, PLANS, WATCHED
from tests.sim.processes import Process, poor, some, tried

DEEDS = (
    *("grant", "grant", "grant", "grant", "plan", "plan", "status", "key", "budget", "correct", "correct"),
    *("refund", "refund", "watch", "commit", "autopay", "autopay", "post", "post", "revive"),
)


async def open_account(process: Process, account: str) -> None:
    """An account with a key, watched, and with autopay."""
    ledger = process.ledger
    signup, plan = (Nanos(3 * NANOS_PER_USD), PLANS[0]) if poor(account) else (Nanos(8 * NANOS_PER_USD), PLANS[-1])
    await ledger.open_account(operation=f"open-{account}", account=account, plan=plan, signup=signup)
    key = Key(id=f"{account}-key", account=account)
    await ledger.put_key(operation=f"key-{account}", key=key, digest=f"{account}-digest")
    if not poor(account):
        month = month_of(process.world.now_ms)
        await ledger.commit(operation=f"commit-{account}", account=account, month=month, amount=COMMITTED)
    for watch in WATCHED:
        await ledger.put_watch(account=account, watch=watch)
    autopay = {"enabled": True, "provider": BANK, **AUTOPAY}
    await ledger.set_autopay(operation=f"autopay-{account}", account=account, changes=autopay)


async def administrate(process: Process, account: str, operation: str) -> None:
    """A change, tried until its outcome is known; one that stops the account is taken back after a while."""
    dice, ledger, key = process.world.dice, process.ledger, f"{account}-key"
    changed, acknowledged = process.changed, process.auditor.acknowledged
    amount = some(process, account)
    match dice.choice(DEEDS):
        case "grant":
            expires = process.world.now_ms + dice.choice((40, 400)) * 1000 if dice.random() < 0.3 else None
            grant = partial(ledger.grant, kind=dice.choice(("purchase", "promotion")), priority=dice.choice((10, 50)))
            if await changed(grant, operation, account=account, amount=amount, expires_ms=expires):
                acknowledged[operation] = account
        case "plan":
            await changed(ledger.change_account, operation, account=account, plan=dice.choice(PLANS))
        case "status":
            for status in ("suspended", "active"):
                await changed(ledger.change_account, f"{operation}:{status}", account=account, status=status)
                await process.world.sleep(1.0)
        case "key":
            for disabled in (True, False):
                change = partial(ledger.change_key, key_id=key, changes={"disabled": disabled})
                await changed(change, f"{operation}:{disabled}", account=account)
                await process.world.sleep(1.0)
        case "budget":
            budget = {"monthly_budget": Nanos(100 * amount) if dice.random() < 0.5 else None}
            await changed(partial(ledger.change_key, key_id=key, changes=budget), operation, account=account)
        case "correct":
            moved = Nanos(amount // 10 if dice.random() < 0.5 else -(amount // 100) - 1)
            correct = partial(ledger.correct, key_id=key, amount=moved, data={"reason": "simulated"})
            if await changed(correct, operation, account=account):
                acknowledged[operation] = account
        case "refund":
            newest = await tried(ledger.entries(account, limit=10, newest_first=True)) or ()
            for charge in [entry for entry in newest if entry.kind == "charge"][:2]:
                back = dice.choice((None, Nanos(-charge.amount // 2 or 1)))
                refund = partial(ledger.refund, entry_id=charge.id, amount=back, data={"reason": "simulated"})
                if await changed(refund, f"{operation}:{charge.id}", account=account):
                    acknowledged[f"{operation}:{charge.id}"] = account
        case "commit":
            month = month_of(process.world.now_ms + dice.choice((0, 40 * 86_400_000)))
            await changed(partial(ledger.commit, month=month, amount=amount), operation, account=account)
        case "watch":
            watch: Watch = dice.choice(WATCHED)
            await tried(ledger.put_watch(account=account, watch=watch))
        case "autopay":
            changes = {"enabled": True, "threshold": Nanos(AUTOPAY["threshold"] - dice.randint(0, 5))}
            await changed(partial(ledger.set_autopay, changes=changes), operation, account=account)
        case "post":
            for _ in range(2):  # whoever is not sure that it was posted posts it again
                await process.books.post(account, operation, "hook", {"n": 1}, dice.choice((0.0, 30.0)))
                await process.world.sleep(15.0)
        case _:
            for dead in await tried(ledger.deliveries(account, dead=True, limit=3)) or ():
                await tried(ledger.revive(account=account, delivery_id=dead.id))
