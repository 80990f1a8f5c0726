"""The administration of accounts: what ops may do, once, for the admin API and for the command line.

Owns: the operation ids, the secret of a new key, which defaults come from the tier.
Does not know: HTTP, the command line, how the input was read (bodies) or how records look (views).
"""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from uuid import uuid4

from gateway.core.errors import LedgerRefused
from gateway.core.money import ZERO, format_usd
from gateway.edge.keys import key_digest, new_secret, pepper_id, repeatable_secret
from gateway.edge.operations.admin_bodies import (
    AddKey,
    ChangeAccount,
    ChangeKey,
    Correct,
    EndGrant,
    GiveGrant,
    OpenAccount,
    Refund,
    RotateKey,
)
from gateway.edge.operations.views import (
    Data,
    view_account,
    view_drift,
    view_entry,
    view_grant,
    view_hold,
    view_key,
    view_moved,
    when,
)
from gateway.ports import Account, Key, Ledger, Plan
from gateway.settings.overriding import tier_of
from gateway.settings.runtime import Runtime

NAMESPACE = "admin:"


class UnknownKey(LedgerRefused):
    """The account has no key of this id."""


@dataclass(frozen=True, slots=True)
class Operation:
    """The name of one change: a repeat of it gets the first answer. `named`: the caller chose the name."""

    id: str
    named: bool


def operation(idempotency_key: str | None, namespace: str = NAMESPACE) -> Operation:
    """The operation that a caller named, or a new one. Names of different callers' namespaces never meet."""
    if idempotency_key is None:
        return Operation(f"{namespace}{uuid4().hex}", named=False)
    return Operation(f"{namespace}{idempotency_key}", named=True)


class Operations:
    """What ops may do. Every answer is plain data, ready for JSON.

    Raises what the ledger raises: UnknownAccount, LedgerRefused, OperationConflict, LedgerUnavailable.
    """

    def __init__(self, *, ledger: Ledger, runtime: Runtime) -> None:
        self._ledger = ledger
        self._runtime = runtime

    # ---- accounts

    async def list_accounts(self, *, after: str, limit: int) -> Data:
        """A page of accounts in the order of their ids, after the given one."""
        found = await self._ledger.accounts_after(after, limit=limit + 1)
        page = found[:limit]
        accounts = await asyncio.gather(*map(self._ledger.account, page))
        return _page([self._account(account) for account in accounts], page[-1] if len(found) > limit else None)

    async def open_account(self, body: OpenAccount, operation: Operation) -> Data:
        """Open an account with the signup grant of its tier."""
        tier = self._runtime.tiers[body.tier or self._runtime.default_tier]
        plan = Plan(tier=tier.name, rate_card=body.rate_card or "")
        return self._account(
            await self._ledger.open_account(
                operation=operation.id, account=body.id, plan=plan, signup=tier.signup_grant
            )
        )

    async def show_account(self, account: str) -> Data:
        """The account as it stands now."""
        return self._account(await self._ledger.account(account))

    async def change_account(self, account: str, body: ChangeAccount, operation: Operation) -> Data:
        """Change what the body names; what it does not name stays."""
        named = body.model_fields_set
        return self._account(
            await self._ledger.change_account(
                operation=operation.id,
                account=account,
                tier=body.tier if "tier" in named else None,
                rate_card=(body.rate_card or "") if "rate_card" in named else None,
                status=body.status if "status" in named else None,
                overrides=body.overrides,
            )
        )

    # ---- keys

    async def list_keys(self, account: str) -> Data:
        """The account's keys, without their secrets."""
        return _page([view_key(key) for key in await self._ledger.keys(account)])

    async def add_key(self, account: str, body: AddKey, operation: Operation) -> Data:
        """Make a key. The answer has the secret, which cannot be had again but by a repeat of the named operation."""
        key = Key(
            id=body.id or "",
            account=account,
            name=body.name,
            project=body.project,
            expires_ms=body.expires_at,
            products=None if body.products is None else tuple(body.products),
            monthly_budget=body.monthly_budget,
            billing=body.billing,
        )
        return await self._make_key(key, body.secret, operation)

    async def _make_key(self, key: Key, secret: str | None, operation: Operation, before_ms: int | None = None) -> Data:
        """Make it, with a new id and secret where it has none."""
        pepper, account, key_id = self._runtime.key_pepper, key.account, key.id
        if operation.named and pepper:
            secret = secret or repeatable_secret(pepper, account, operation.id)
            key_id = key_id or f"key-{hashlib.sha256(f'{account} {operation.id}'.encode()).hexdigest()[:16]}"
        else:
            secret = secret or new_secret()
            key_id = key_id or f"key-{secrets.token_hex(8)}"
        key = replace(key, id=key_id, pepper=pepper_id(pepper))
        digest = key_digest(pepper, secret)
        made = await self._ledger.put_key(operation=operation.id, key=key, digest=digest, before_ms=before_ms)
        return {**view_key(made), "secret": secret}

    async def rotate_key(self, account: str, key_id: str, body: RotateKey, operation: Operation) -> Data:
        """Make a key that may what this one may, and end this one. The new one is there before the old one ends.

        Its id and its month are its own: until the old one ends, each has the budget.
        """
        old = next((key for key in await self._ledger.keys(account) if key.id == key_id), None)
        if old is None:
            raise UnknownKey(f"the account has no key {key_id}")
        successor = replace(old, id="", disabled=False, expires_ms=body.expires_at)
        until = body.old_until  # whether it is over is judged here alone: once there are two keys, the old one must end
        made = await self._make_key(successor, None, operation, before_ms=until)
        ended = {"disabled": True} if until is None else {"expires_ms": min(until, old.expires_ms or until)}
        await self._ledger.change_key(operation=f"{operation.id}:old", account=account, key_id=key_id, changes=ended)
        return {**made, "replaces": key_id, "old_until": None if until is None else when(until)}

    async def change_key(self, account: str, key_id: str, body: ChangeKey, operation: Operation) -> Data:
        """Change what the body names; what it does not name stays."""
        if key_id not in {key.id for key in await self._ledger.keys(account)}:
            raise UnknownKey(f"the account has no key {key_id}")
        changes = {name: getattr(body, name) for name in sorted(body.model_fields_set)}
        if "expires_at" in changes:
            changes["expires_ms"] = changes.pop("expires_at")
        if changes.get("products") is not None:
            changes["products"] = tuple(changes["products"])
        changed = await self._ledger.change_key(
            operation=operation.id, account=account, key_id=key_id, changes=changes, before_ms=body.expires_at
        )
        return view_key(changed)

    # ---- credit

    async def list_grants(self, account: str) -> Data:
        """The account's grants, in burn order."""
        return _page([view_grant(grant) for grant in (await self._ledger.account(account)).grants])

    async def give_grant(self, account: str, body: GiveGrant, operation: Operation) -> Data:
        """Give credit."""
        return view_grant(
            await self._ledger.grant(
                operation=operation.id,
                account=account,
                kind=body.kind,
                amount=body.amount,
                priority=body.priority,
                expires_ms=body.expires_at,
                note=body.note,
            )
        )

    async def end_grant(self, account: str, grant: str, body: EndGrant, actor: str, operation: Operation) -> Data:
        """Take off what is left of a grant: one that was given by mistake."""
        data = {"reason": body.reason, "actor": actor}
        receipt = await self._ledger.end_grant(operation=operation.id, account=account, grant_id=grant, data=data)
        return view_moved(receipt, grant=grant)

    async def correct(self, account: str, body: Correct, operation: Operation) -> Data:
        """Correct a charge. Where the caller chose no name for it, the same correction is the same operation."""
        if body.key is not None and body.key not in {key.id for key in await self._ledger.keys(account)}:
            raise UnknownKey(f"the account has no key {body.key}")
        content = hashlib.sha256(body.model_dump_json().encode()).hexdigest()
        receipt = await self._ledger.correct(
            operation=operation.id if operation.named else f"{NAMESPACE}correct:{content}",
            account=account,
            key_id=body.key or "",
            amount=body.amount,
            data={"call_id": body.call_id, "reason": body.reason, "actor": body.actor},
            of_call=body.call_id,
        )
        return view_moved(receipt, call_id=body.call_id)

    async def refund(self, account: str, body: Refund, actor: str, operation: Operation) -> Data:
        """Give a charge back, or a part of it: never more than it was."""
        receipt = await self._ledger.refund(
            operation=operation.id,
            account=account,
            entry_id=body.entry,
            amount=body.amount,
            data={"reason": body.reason, "actor": actor},
        )
        return view_moved(receipt, refunds=body.entry)

    async def show_credits(self, account: str) -> Data:
        """What the account has, what of it is in use, what its keys spent, and the grants left in burn order."""
        found = await self._ledger.account(account)
        spent = sum(key.spent for key in await self._ledger.keys(account))
        grants = [view_grant(grant) for grant in found.grants]
        return {**self._account(found), "spent_this_month": format_usd(spent), "grants": grants}

    # ---- holds and entries

    async def list_holds(self, account: str) -> Data:
        """Open holds, soonest expiry first."""
        return _page([view_hold(hold) for hold in await self._ledger.holds(account)])

    async def release_hold(self, account: str, hold_id: str) -> Data:
        """Give a hold back, and its job with it. `released` false: it had ended before, or never was.

        A job that waits in the queue is left to whoever claims it next, who finds that nothing is held for it any more,
        and tells its client.
        """
        open_holds = {hold.id: hold for hold in await self._ledger.holds(account)}
        released = False
        if hold_id in open_holds:
            resource = open_holds[hold_id].resource
            job = None if resource is None else await self._ledger.resource(account=account, ref=resource)
            if job is not None and job.state == "queued":
                resource = None
            released = await self._ledger.release(account=account, hold_id=hold_id, resource=resource)
        return {"account": account, "hold": hold_id, "released": released}

    async def list_entries(self, account: str, *, after: str, limit: int, newest_first: bool = False) -> Data:
        """A page of entries in the order they were made, or in reverse, after the given one."""
        begin = {"before": after} if newest_first else {"after": after}
        found = await self._ledger.entries(account, **begin, limit=limit + 1, newest_first=newest_first)
        page = found[:limit]
        return _page([view_entry(entry) for entry in page], page[-1].id if len(found) > limit else None)

    async def verify(self, account: str) -> Data:
        """Recompute the account from its entries; `drift` lists every difference."""
        drift = [view_drift(found) for found in await self._ledger.verify(account)]
        return {"account": account, "ok": not drift, "drift": drift}

    async def account_ids(self) -> AsyncIterator[str]:
        """Every account's id, each once."""
        for account in sorted({account async for account in self._ledger.accounts()}):
            yield account

    def _account(self, account: Account) -> Data:
        tier = tier_of(self._runtime.tiers, account.plan)
        return view_account(account, tier.overdraft if tier is not None else ZERO)


def _page(items: list[Data], following: str | None = None) -> Data:
    return {"items": items, "next": following}
