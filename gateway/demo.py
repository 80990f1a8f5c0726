"""`gateway demo`: a whole gateway on one machine, with accounts to try it.

Owns: the demo accounts and their fixed keys, the order in which Redis, sandbox and gateway come up, what is printed.
Does not know: how any of them works.

Accounts are made once. A later run finds them and leaves their balances alone.
"""

import errno
import shlex
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from gateway.core.errors import OperationConflict, Refused, UnknownAccount
from gateway.core.money import NANOS_PER_USD, ZERO, Nanos, format_usd
from gateway.core.pricing import Charge, LineItem
from gateway.demo_month import BEGUN, Clocked, Month, Past, open_month, seed_month
from gateway.edge.keys import key_digest
from gateway.edge.ledger import open_ledger
from gateway.edge.process.supervisor import supervise
from gateway.ports import Account, AdmissionRequest, AdmissionTerms, Key, Ledger, Plan, PlanChanged, Settlement
from gateway.sandbox import SandboxSettings
from gateway.sandbox import start as start_sandbox
from gateway.settings.runtime import Listener, Runtime

_OPENED: Final = "demo:open"
_PURCHASED: Final = "demo:purchase"
_ENTRIES: Final = 1000
_SPENT: Final = "demo-empty-spends-all"


class DemoError(Exception):
    """The demo cannot start; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoAccount:
    """An account of the demo. `signup`: it gets its tier's grant, which `spent` charges at once to the last nano.

    `month`: it looks back on a month of use and payments, which leave it as much as the `purchase` would.
    """

    id: str
    tier: str
    secret: str
    purchase: Nanos = ZERO
    signup: bool = True
    spent: bool = False
    month: bool = False


FREE: Final = DemoAccount(id="demo-free", tier="free", secret="demo-free-key")  # noqa: S106 - fixed on purpose
PAID: Final = DemoAccount(
    id="demo-paid",
    tier="payg",
    secret="demo-paid-key",  # noqa: S106 - fixed on purpose
    purchase=Nanos(100 * NANOS_PER_USD),
    signup=False,
    month=True,
)
EMPTY: Final = DemoAccount(id="demo-empty", tier="free", secret="demo-empty-key", spent=True)  # noqa: S106 - as above
ACCOUNTS: Final = (FREE, PAID, EMPTY)


async def run_demo(
    runtime: Runtime,
    *,
    reread: Callable[[], Runtime],
    say: Callable[[dict[str, Any]], None],
    with_sandbox: bool = True,
    options: Sequence[str] = (),
) -> None:
    """Everything up, until SIGINT or SIGTERM; then everything down, in the other order. Raises DemoError.

    `options` are those that other commands need to find the same ledger.
    """
    place, credential = sandbox_of(runtime) if with_sandbox else (None, "")
    runtime = on_this_machine(runtime)
    for name, listener in (("customers", runtime.customers), ("ops and admin", runtime.ops), ("sandbox", place)):
        if listener is not None:
            require_free(name, listener)
    async with AsyncExitStack() as stack:
        ledger = await stack.enter_async_context(open_ledger(runtime))
        if place is not None:
            sandbox = await start_sandbox(SandboxSettings(credential=credential), place.host, place.port)
            stack.push_async_callback(sandbox.stop)
        past = Past(ledger, runtime.redis.prefix)
        accounts = [await seed(ledger, runtime, account, past) for account in ACCOUNTS]
        facts = _facts(runtime, place, accounts, options)
        await supervise(runtime, workers=1, reread=lambda: on_this_machine(reread()), ready=lambda: say(facts))


def on_this_machine(runtime: Runtime) -> Runtime:
    """A config with which the sandbox calls the gateway back, and the gateway calls webhooks on this machine."""
    here = runtime.public_url or _url(runtime.customers, tls=runtime.customers_tls is not None)
    outward = replace(runtime.outward, allow=(*runtime.outward.allow, "localhost", "127.0.0.0/8", "::1"))
    return replace(runtime, public_url=here, outward=outward)


def require_free(name: str, listener: Listener) -> None:
    """Raise DemoError if somebody listens there already."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            listener.host, listener.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        where = f"{listener.host}:{listener.port} ({name})"
        if error.errno == errno.EADDRINUSE:
            raise DemoError(f"{where} is in use. Is another demo running? Stop it, or change the port.") from error
        raise DemoError(f"{where} cannot be listened on: {error.strerror or error}") from error


async def seed(ledger: Ledger, runtime: Runtime, demo: DemoAccount, past: Clocked | None = None) -> Account:
    """Make of the account what is not there yet: the account, its credit, its key, its spending.

    What was done is read from the entries, which stay; the ledger forgets operation ids after some days. With a `past`,
    one that is to have a month gets it when it is made.
    """
    tier = runtime.tiers.get(demo.tier)
    if tier is None:
        raise DemoError(f"the config has no tier {demo.tier!r}, which {demo.id} has: use another config")
    digest = key_digest(runtime.key_pepper, demo.secret)
    key = Key(id=f"{demo.id}-{digest[:8]}", account=demo.id, name="demo key")
    month = Month(account=demo.id, plan=Plan(tier=tier.name), keys=(key.id, f"{demo.id}-batch"), left=demo.purchase)
    try:
        done = {entry.operation for entry in await ledger.entries(demo.id, limit=_ENTRIES)}
        opened = True
    except UnknownAccount:
        done, opened = set(), False
    if past is not None and demo.month and not done:
        await open_month(past, runtime, month, now_ms=int(time.time() * 1000))
        done = {BEGUN}
    elif not opened:
        signup = tier.signup_grant if demo.signup else ZERO
        await ledger.open_account(operation=_OPENED, account=demo.id, plan=Plan(tier=tier.name), signup=signup)
    if demo.purchase and not done & {_PURCHASED, BEGUN}:
        await ledger.grant(
            operation=_PURCHASED, account=demo.id, kind="purchase", amount=demo.purchase, note="demo purchase"
        )
    if await ledger.identify(digest) is None:
        await ledger.put_key(operation=f"demo:key:{key.id}", key=key, digest=digest)
    if demo.spent and _SPENT not in done:
        await _spend(ledger, runtime, demo, key.id)
    if past is not None and BEGUN in done and all(each.startswith("demo:") for each in done):
        await seed_month(past, runtime, month, await ledger.account(demo.id), frozenset(done))
    return await ledger.account(demo.id)


async def _spend(ledger: Ledger, runtime: Runtime, demo: DemoAccount, key_id: str) -> None:
    """Charge all of the signup grant, as a call would: admitted, held, settled with a line item that explains it."""
    tier = runtime.tiers[demo.tier]
    amount = tier.signup_grant
    version = runtime.prices.versions[0]
    request = AdmissionRequest(
        account=demo.id,
        key_id=key_id,
        terms=AdmissionTerms(
            plan=Plan(tier=tier.name),
            product="demo",
            entitled=True,
            metered=True,
            overdraft=ZERO,
            price_version=version,
        ),
        hold_id=_SPENT,
        estimate=amount,
    )
    try:
        admitted = await ledger.admit(request)
    except OperationConflict:  # a run was killed in between: the hold has expired, its charge is still due
        admitted = None
    if isinstance(admitted, Refused | PlanChanged):
        raise DemoError(f"{demo.id} cannot be made as it should be: somebody changed it. Use another --data directory.")
    usd = format_usd(amount)
    item = LineItem(
        sku="demo.signup_grant_spent", quantity="1", unit="call", unit_price=f"{usd} per_call", amount=amount
    )
    charge = Charge(amount=amount, items=(item,), price_version=version, rate_card=tier.rate_card)
    await ledger.settle(
        Settlement(
            account=demo.id,
            hold_id=_SPENT,
            key_id=key_id,
            product="demo",
            route="demo",
            call_id=_SPENT,
            charge=charge,
        )
    )


def sandbox_of(runtime: Runtime) -> tuple[Listener, str]:
    """Where the config expects its upstreams, and with which credential: the sandbox is to be there.

    Raises DemoError if they are not all in one place on this machine, with one credential.
    """
    upstreams = {product.upstream.name: product.upstream for product in runtime.products.values() if product.forwarded}
    found = set()
    for upstream in (place for each in upstreams.values() for place in each.places):
        url = urlsplit(upstream.base_url)
        here = url.scheme == "http" and url.hostname in ("127.0.0.1", "localhost", "::1") and url.port
        found.add((url.hostname or "", url.port or 0, upstream.credential) if here else None)
    if len(found) != 1 or None in found:
        places = ", ".join(f"{name} ({upstream.base_url})" for name, upstream in sorted(upstreams.items()))
        raise DemoError(
            f"The demo's sandbox stands for every upstream, and the config's are not in one place here: {places}. "
            "Use another config, or --no-sandbox."
        )
    host, port, credential = found.pop() or ("", 0, "")
    return Listener(host=host, port=port), credential.removeprefix("Bearer ")


# ---- what is printed


def _facts(
    runtime: Runtime, sandbox: Listener | None, accounts: Sequence[Account], options: Sequence[str]
) -> dict[str, Any]:
    """Everything that a newcomer needs, as data."""
    customers, ops = _url(runtime.customers, tls=runtime.customers_tls is not None), _url(runtime.ops)
    secrets = {demo.id: demo.secret for demo in ACCOUNTS}
    return {
        "up": {
            "customers": customers,
            "billing": f"{customers}/billing",
            "ops": ops,
            "sandbox": None if sandbox is None else _url(sandbox),
            "redis": "redis.url of the config" if runtime.redis.url else f"embedded, in {runtime.redis.directory}",
        },
        "admin_token": runtime.admin_token,
        "accounts": [
            {
                "account": account.id,
                "tier": account.plan.tier,
                "key": secrets[account.id],
                "balance": format_usd(account.balance),
                "currency": "USD",
            }
            for account in accounts
        ],
        "try": _commands(customers, ops, runtime.admin_token, options),
    }


def _commands(customers: str, ops: str, admin_token: str, options: Sequence[str]) -> list[dict[str, str]]:
    chat = """-d '{"model": "gpt-5.2", "messages": [{"role": "user", "content": "Say hello."}]}'"""
    job = """-d '{"audio_url": "https://example.com/call.wav"}'"""
    form = "-H 'Content-Type: application/json'"
    transcripts = f"{customers}/v2/transcript"
    show = " ".join((_program(), *(shlex.quote(option) for option in options)))
    return [
        {
            "what": "charged: see X-Gateway-Charge",
            "run": f"curl -i {customers}/v1/chat/completions -H 'Authorization: Bearer {PAID.secret}' {form} {chat}",
        },
        {
            "what": "a job: held now, charged by the look that sees it completed",
            "run": f"ID=$(curl -s {transcripts} -H 'Authorization: {FREE.secret}' {form} {job} "
            """| sed -E 's/.*"id": ?"([^"]+)".*/\\1/'); sleep 1; """
            f"curl -i {transcripts}/$ID -H 'Authorization: {FREE.secret}'",
        },
        {
            "what": "refused: no credit left",
            "run": f"curl -i {transcripts} -H 'Authorization: {EMPTY.secret}' {form} {job}",
        },
        {
            "what": "refused: the free tier has no LLM gateway",
            "run": f"curl -i {customers}/v1/chat/completions -H 'Authorization: {FREE.secret}' {form} {chat}",
        },
        {"what": "what is left, to the nano-dollar", "run": show},
        {
            "what": "the same, from the admin API",
            "run": f"curl -s {ops}/admin/v1/accounts/{FREE.id}/credits -H 'Authorization: Bearer {admin_token}'",
        },
    ]


def welcome(facts: dict[str, Any]) -> str:
    """The facts for people."""
    up = facts["up"]
    lines = [
        "The gateway is up. Ctrl-C stops everything; balances are kept.",
        "",
        f"  customers      {up['customers']}",
        f"  billing page   {up['billing']}   sign in with a key below; {PAID.id} has a month to look at",
        f"  ops and admin  {up['ops']}   admin token: {facts['admin_token']}",
        *([f"  sandbox        {up['sandbox']}"] if up["sandbox"] else []),
        f"  Redis          {up['redis']}",
        "",
        *(
            f"  {one['account']:<10}  {one['tier']:<5}  key {one['key']:<14}  balance {one['balance']} USD"
            for one in facts["accounts"]
        ),
    ]
    for command in facts["try"]:
        lines += ["", f"# {command['what']}", command["run"]]
    return "\n".join(lines)


def _url(listener: Listener, *, tls: bool = False) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(listener.host, listener.host)  # noqa: S104 - what to call, not to bind
    return f"{'https' if tls else 'http'}://{host}:{listener.port}"


def _program() -> str:
    """How this program was called, so that the printed line works where it was printed."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m gateway credits show {FREE.id}"
    here = Path.cwd()
    shown = called.relative_to(here) if called.is_absolute() and called.is_relative_to(here) else called
    return f"{shlex.quote(str(shown))} credits show {FREE.id}"
