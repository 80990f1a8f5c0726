"""The admin API's routes: one table, of which the routes themselves, their rights and the OpenAPI document are made.

Owns: the table: what each route takes, needs and answers, and which operation it is.
Does not know: how a request is taken apart (endpoints), who calls (admin), what the operations do.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from gateway.core.errors import UnknownAccount
from gateway.edge.api.account_routes import PAYING, for_operators, job_of
from gateway.edge.api.admin_answers import ANSWERS
from gateway.edge.api.endpoints import LIMIT, PAGE, Ask, Endpoint, Parameter, choice
from gateway.edge.api.openapi import document
from gateway.edge.operations.accounts import Operations, UnknownKey
from gateway.edge.operations.admin_bodies import (
    AddKey,
    ChangeAccount,
    ChangeKey,
    Correct,
    EndGrant,
    GiveGrant,
    OpenAccount,
    PriceDryRun,
    Refund,
    RotateKey,
    SettleJob,
)
from gateway.edge.operations.alerts import AlertOperations
from gateway.edge.operations.auditing import Auditor
from gateway.edge.operations.autopay import AutopayOperations
from gateway.edge.operations.autopay_bodies import FailPayment, TakeBack, TellPayment
from gateway.edge.operations.commitments import Commit, CommitmentOperations
from gateway.edge.operations.fields import is_id
from gateway.edge.operations.jobs import JobOperations
from gateway.edge.operations.outbox import OutboxOperations
from gateway.edge.operations.prices import PriceOperations
from gateway.edge.operations.usage import UsageOperations
from gateway.edge.operations.views import Data

BASE: Final = "/admin/v1"
_ORDER: Final = choice("order", "oldest", "newest", meaning="Which entry comes first")
_OF_ACCOUNT: Final = Parameter("account", {"type": "string", "maxLength": 200}, "Of this account alone")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminDesk:
    """All that ops may do."""

    operations: Operations
    jobs: JobOperations
    outbox: OutboxOperations
    autopay: AutopayOperations
    usage: UsageOperations
    prices: PriceOperations
    audit: Auditor
    alerts: AlertOperations
    commitments: CommitmentOperations


async def _openapi(_desk: AdminDesk, _ask: Ask) -> Data:
    return openapi()


async def _list_accounts(desk: AdminDesk, ask: Ask) -> Data:
    after, limit = ask.page
    return await desk.operations.list_accounts(after=after, limit=limit)


async def _list_entries(desk: AdminDesk, ask: Ask) -> Data:
    after, limit = ask.page
    newest = ask.choice(_ORDER) == "newest"
    return await desk.operations.list_entries(ask.account, after=after, limit=limit, newest_first=newest)


async def _list_audit(desk: AdminDesk, ask: Ask) -> Data:
    after, limit = ask.page
    return await desk.audit.list_lines(account=ask.query.get("account", ""), after=after, limit=limit)


async def _end_grant(desk: AdminDesk, ask: Ask) -> Data:
    return await desk.operations.end_grant(
        ask.account, ask.parts["grant"], ask.body(EndGrant), ask.actor, ask.operation
    )


async def _settle_job(desk: AdminDesk, ask: Ask) -> Data:
    charge_hold = ask.body(SettleJob).charge_hold
    return await desk.jobs.settle_job(ask.account, job_of(ask), charge_hold=charge_hold)


def account_of(parts: Any) -> str:
    """The account that a path names, "" if it names none. Raises UnknownAccount."""
    account: str = parts.get("account", "")
    if "account" in parts and not is_id(account):
        raise UnknownAccount("no account has an id of this form")
    return account


def _key(ask: Ask) -> str:
    if not is_id(ask.parts["key"]):
        raise UnknownKey("no key has an id of this form")
    return ask.parts["key"]


ROUTES: Final[tuple[Endpoint[AdminDesk], ...]] = (
    Endpoint(
        method="GET",
        path="/openapi.json",
        scope="read",
        summary="This document",
        deed=_openapi,
        answer="Document",
    ),
    Endpoint(
        method="GET",
        path="/audit",
        scope="admin",
        summary="A page of what administrators did, the newest first",
        deed=_list_audit,
        answer="AuditLinePage",
        query=(*PAGE, _OF_ACCOUNT),
    ),
    Endpoint(
        method="POST",
        path="/price-dry-runs",
        scope="read",
        summary="What an account's charges of a period would have cost by another price file",
        deed=lambda desk, ask: desk.prices.dry_run(ask.body(PriceDryRun)),
        body=PriceDryRun,
        answer="Repriced",
        problems=("unknown_account",),
    ),
    Endpoint(
        method="GET",
        path="/accounts",
        scope="read",
        summary="A page of accounts, in the order of their ids",
        deed=_list_accounts,
        answer="AccountPage",
        query=PAGE,
    ),
    Endpoint(
        method="POST",
        path="/accounts",
        scope="admin",
        summary="Open an account with the signup grant of its tier",
        deed=lambda desk, ask: desk.operations.open_account(ask.body(OpenAccount), ask.operation),
        body=OpenAccount,
        answer="Account",
        status=201,
    ),
    Endpoint(
        method="GET",
        path="/accounts/{account}",
        scope="read",
        summary="An account and its credit",
        deed=lambda desk, ask: desk.operations.show_account(ask.account),
        answer="Account",
    ),
    Endpoint(
        method="PATCH",
        path="/accounts/{account}",
        scope="admin",
        summary="Change an account's tier, rate card or status",
        deed=lambda desk, ask: desk.operations.change_account(ask.account, ask.body(ChangeAccount), ask.operation),
        body=ChangeAccount,
        answer="Account",
    ),
    Endpoint(
        method="GET",
        path="/accounts/{account}/keys",
        scope="read",
        summary="The account's keys, without their secrets",
        deed=lambda desk, ask: desk.operations.list_keys(ask.account),
        answer="KeyPage",
    ),
    Endpoint(
        method="POST",
        path="/accounts/{account}/keys",
        scope="admin",
        summary="Make a key; its secret is told this once",
        deed=lambda desk, ask: desk.operations.add_key(ask.account, ask.body(AddKey), ask.operation),
        body=AddKey,
        answer="NewKey",
        status=201,
    ),
    Endpoint(
        method="PATCH",
        path="/accounts/{account}/keys/{key}",
        scope="admin",
        summary="Change a key, or disable it",
        deed=lambda desk, ask: desk.operations.change_key(ask.account, _key(ask), ask.body(ChangeKey), ask.operation),
        body=ChangeKey,
        answer="Key",
        problems=("unknown_key",),
    ),
    Endpoint(
        method="POST",
        path="/accounts/{account}/keys/{key}/rotate",
        scope="admin",
        summary="Make a new key in the place of one, which stays good for a while or ends now",
        deed=lambda desk, ask: desk.operations.rotate_key(ask.account, _key(ask), ask.body(RotateKey), ask.operation),
        body=RotateKey,
        answer="RotatedKey",
        status=201,
        problems=("unknown_key",),
    ),
    Endpoint(
        method="PUT",
        path="/accounts/{account}/commitment",
        scope="billing",
        summary="Change what the account commits to pay in each calendar month, from one on",
        deed=lambda desk, ask: desk.commitments.commit(ask.account, ask.body(Commit), ask.operation.id),
        body=Commit,
        answer="Commitment",
    ),
    Endpoint(
        method="GET",
        path="/accounts/{account}/grants",
        scope="read",
        summary="The grants with something left, in the order in which they burn",
        deed=lambda desk, ask: desk.operations.list_grants(ask.account),
        answer="GrantPage",
    ),
    Endpoint(
        method="POST",
        path="/accounts/{account}/grants",
        scope="billing",
        summary="Give credit",
        deed=lambda desk, ask: desk.operations.give_grant(ask.account, ask.body(GiveGrant), ask.operation),
        body=GiveGrant,
        answer="Grant",
        status=201,
    ),
    Endpoint(
        method="POST",
        path="/accounts/{account}/grants/{grant}/end",
        scope="billing",
        summary="Take off what is left of a grant",
        deed=_end_grant,
        body=EndGrant,
        answer="EndedGrant",
        status=201,
    ),
    Endpoint(
        method="POST",
        path="/accounts/{account}/corrections",
        scope="billing",
        summary="Correct a charge by an entry of its own",
        deed=lambda desk, ask: desk.operations.correct(ask.account, ask.body(Correct), ask.operation),
        body=Correct,
        answer="Correction",
        status=201,
        problems=("unknown_key",),
    ),
    Endpoint(
        method="POST",
        path="/accounts/{account}/refunds",
        scope="billing",
        summary="Give a charge back, or a part of it",
        deed=lambda desk, ask: desk.operations.refund(ask.account, ask.body(Refund), ask.actor, ask.operation),
        body=Refund,
        answer="Refunded",
        status=201,
    ),
    Endpoint(
        method="GET",
        path="/accounts/{account}/credits",
        scope="read",
        summary="What the account has, what is in use, what was spent this month, and its grants",
        deed=lambda desk, ask: desk.operations.show_credits(ask.account),
        answer="Credits",
    ),
    Endpoint(
        method="POST",
        path="/accounts/{account}/autopay/fail",
        scope="billing",
        summary="Give up an attempt of autopay that hangs",
        deed=lambda desk, ask: desk.autopay.fail_payment(ask.account, ask.body(FailPayment)),
        body=FailPayment,
        names_itself=True,
        answer="Autopay",
        problems=PAYING,
    ),
    Endpoint(
        method="POST",
        path="/accounts/{account}/payments",
        scope="billing",
        summary="Credit a payment that was made somewhere else, once",
        deed=lambda desk, ask: desk.autopay.tell_payment(ask.account, ask.body(TellPayment)),
        body=TellPayment,
        names_itself=True,
        answer="Grant",
        status=201,
        problems=PAYING,
    ),
    Endpoint(
        method="POST",
        path="/accounts/{account}/payments/take-back",
        scope="billing",
        summary="Take back what a refund or a dispute takes of a payment",
        deed=lambda desk, ask: desk.autopay.take_back(ask.account, ask.body(TakeBack)),
        body=TakeBack,
        names_itself=True,
        answer="TakenBack",
        status=201,
        problems=PAYING,
    ),
    Endpoint(
        method="GET",
        path="/accounts/{account}/holds",
        scope="read",
        summary="Open holds, soonest expiry first",
        deed=lambda desk, ask: desk.operations.list_holds(ask.account),
        answer="HoldPage",
    ),
    Endpoint(
        method="POST",
        path="/accounts/{account}/holds/{hold}/release",
        scope="billing",
        summary="Give a hold back",
        deed=lambda desk, ask: desk.operations.release_hold(ask.account, ask.parts["hold"]),
        names_itself=True,
        answer="ReleasedHold",
    ),
    Endpoint(
        method="POST",
        path="/accounts/{account}/jobs/{kind}/{job}/settle",
        scope="billing",
        summary="Ask the service now, and end the job by what it says",
        deed=_settle_job,
        body=SettleJob,
        names_itself=True,
        answer="SettledJob",
        problems=("unknown_job",),
    ),
    Endpoint(
        method="POST",
        path="/accounts/{account}/jobs/{kind}/{job}/release",
        scope="billing",
        summary="Give the hold of an open job back for good",
        deed=lambda desk, ask: desk.jobs.release_job(ask.account, job_of(ask)),
        names_itself=True,
        answer="ReleasedJob",
        problems=("unknown_job",),
    ),
    Endpoint(
        method="GET",
        path="/accounts/{account}/deliveries",
        scope="read",
        summary="Deliveries that wait, the first one due first",
        deed=lambda desk, ask: desk.outbox.list_deliveries(ask.account, dead=False, limit=ask.page[1]),
        answer="DeliveryPage",
        query=(LIMIT,),
    ),
    Endpoint(
        method="GET",
        path="/accounts/{account}/dead-letters",
        scope="read",
        summary="Deliveries that were given up, the newest first",
        deed=lambda desk, ask: desk.outbox.list_deliveries(ask.account, dead=True, limit=ask.page[1]),
        answer="DeliveryPage",
        query=(LIMIT,),
    ),
    Endpoint(
        method="GET",
        path="/accounts/{account}/deliveries/{delivery}",
        scope="read",
        summary="One delivery, with what its payload may show",
        deed=lambda desk, ask: desk.outbox.show_delivery(ask.account, ask.parts["delivery"]),
        answer="ShownDelivery",
        problems=("unknown_delivery",),
    ),
    Endpoint(
        method="POST",
        path="/accounts/{account}/deliveries/{delivery}/replay",
        scope="admin",
        summary="Deliver a dead letter after all",
        deed=lambda desk, ask: desk.outbox.replay_delivery(ask.account, ask.parts["delivery"]),
        names_itself=True,
        answer="Replayed",
        problems=("unknown_delivery",),
    ),
    Endpoint(
        method="GET",
        path="/accounts/{account}/entries",
        scope="read",
        summary="A page of entries, in the order they were made or the newest first",
        deed=_list_entries,
        answer="EntryPage",
        query=(*PAGE, _ORDER),
    ),
    *for_operators("/accounts/{account}"),
    Endpoint(
        method="POST",
        path="/accounts/{account}/verify",
        scope="read",
        summary="Recompute the account from its entries and records",
        deed=lambda desk, ask: desk.operations.verify(ask.account),
        answer="Verified",
    ),
)


@cache
def openapi() -> Data:
    """The admin API as an OpenAPI document."""
    return document(
        title="Admin API",
        description="Accounts, keys, credit, holds, jobs and entries of the gateway.",
        base=BASE,
        endpoints=ROUTES,
        answers=ANSWERS,
        token="The config's admin_token, or one of its admin_tokens with the scope of the route.",  # noqa: S106 - told
        also=("admin_disabled", "insufficient_scope", "too_many_unknown_keys"),
    )
