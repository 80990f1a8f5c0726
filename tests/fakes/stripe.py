"""Stripe as its HTTP API: customers, payment intents, checkout sessions, events, and the page where a card is charged.

Owns: what of that API the gateway uses, form-encoded in and JSON out, with idempotency keys, card errors, signed
webhooks that come twice and in any order, and replies that are lost on their way.
Does not know: the gateway. It is written after Stripe's public reference, not after our own calls.
"""

import asyncio
import hashlib
import hmac
import random
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Self

import aiohttp
import orjson
from aiohttp import web

SECRET_KEY = "sk_test_fake"
WEBHOOK_SECRET = "whsec_fake"
#: Payment methods that behave as those of Stripe's own test mode do.
DECLINED, AUTHENTICATED, SLOW, GOOD = "pm_declined", "pm_authentication", "pm_slow", "pm_good"
_DECLINES = {DECLINED: ("card_declined", "insufficient_funds"), AUTHENTICATED: ("authentication_required", "")}

Data = dict[str, Any]


class Failed(Exception):
    """An error of the API."""

    def __init__(self, status: int, kind: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"type": kind, "message": message, **more}}


@dataclass
class Kept:
    """What was answered to an idempotency key."""

    asked: Data
    status: int = 0
    body: bytes = b""
    done: bool = False


@dataclass
class FakeStripe:
    """`async with FakeStripe() as stripe`: at `stripe.url`. `webhook_url` gets every event as it happens."""

    webhook_url: str = ""
    #: How often each event is sent, and whether events that happen together are shuffled.
    copies: int = 1
    shuffled: bool = False
    #: So many of the next replies are lost after the work was done; so many of the next requests are refused with 500.
    lose_replies: int = 0
    lose_every: int = 0  # and of all replies every so many-th
    fail_requests: int = 0
    #: Each charge takes so long.
    charge_seconds: float = 0.0
    intents: dict[str, Data] = field(default_factory=dict)
    sessions: dict[str, Data] = field(default_factory=dict)
    setups: dict[str, Data] = field(default_factory=dict)
    customers: dict[str, Data] = field(default_factory=dict)
    disputes: dict[str, Data] = field(default_factory=dict)
    refunds: dict[str, Data] = field(default_factory=dict)
    #: Every event there was, oldest first; every request, as method, path and idempotency key.
    events: list[Data] = field(default_factory=list)
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    lost: int = 0

    def __post_init__(self) -> None:
        self._kept: dict[str, Kept] = {}
        self._numbers = count(1)
        self._sending: set[asyncio.Task[None]] = set()
        self._random = random.Random(7)

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/v1/{path:.*}", self._api)
        app.router.add_get("/checkout/{session}", self._page)
        app.router.add_post("/checkout/{session}", self._pay)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        assert self._runner.addresses
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20))
        return self

    async def __aexit__(self, *_error: object) -> None:
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
        await self._http.close()
        await self._runner.cleanup()

    @property
    def paid(self) -> list[int]:
        """What was charged, in cents, one for each payment that succeeded."""
        return [intent["amount_received"] for intent in self.intents.values() if intent["status"] == "succeeded"]

    # ---- what happens at Stripe by itself

    async def refund(self, intent_id: str, cents: int) -> str:
        """Somebody refunds a part of a payment on the dashboard."""
        charge = self._charge(self.intents[intent_id])
        charge["amount_refunded"] += cents
        refund = {
            "id": self._id("re"), "object": "refund", "amount": cents, "currency": "usd", "status": "succeeded",
            "charge": charge["id"], "payment_intent": intent_id, "metadata": {},
        }  # fmt: skip
        self.refunds[str(refund["id"])] = refund
        await self._tell("charge.refunded", charge)
        return str(refund["id"])

    async def fail_refund(self, refund_id: str) -> None:
        """The payer's bank does not take it: the money comes back."""
        refund = self.refunds[refund_id]
        refund["status"] = "failed"
        self._charge(self.intents[refund["payment_intent"]])["amount_refunded"] -= refund["amount"]
        await self._tell("refund.failed", refund)

    async def dispute(self, intent_id: str, status: str = "needs_response") -> str:
        """The card's owner disputes a payment (or, by another status, asks about it)."""
        intent = self.intents[intent_id]
        dispute = {
            "id": self._id("dp"), "object": "dispute", "amount": intent["amount_received"], "currency": "usd",
            "charge": intent["latest_charge"], "payment_intent": intent_id, "status": status, "metadata": {},
        }  # fmt: skip
        self.disputes[dispute["id"]] = dispute
        await self._tell("charge.dispute.created", dispute)
        return str(dispute["id"])

    async def escalate_dispute(self, dispute_id: str) -> None:
        """What was an inquiry takes its amount from now on."""
        self.disputes[dispute_id]["status"] = "needs_response"
        await self._tell("charge.dispute.updated", self.disputes[dispute_id])

    async def close_dispute(self, dispute_id: str, status: str) -> None:
        """The bank decides: `won` or `lost`."""
        self.disputes[dispute_id]["status"] = status
        await self._tell("charge.dispute.closed", self.disputes[dispute_id])

    async def settle_slow(self, *, succeed: bool = True) -> None:
        """What was `processing` is decided."""
        for intent in self.intents.values():
            if intent["status"] == "processing":
                await (self._succeed(intent) if succeed else self._decline(intent, "card_declined", "generic_decline"))

    async def pay_checkout(self, url: str) -> str:
        """A person pays on the page; where the page leads then."""
        async with self._http.post(url, data={"card": GOOD}, allow_redirects=False) as reply:
            assert reply.status == 303, reply.status
            return reply.headers["Location"]

    async def send(self, event: Data, *, secret: str = WEBHOOK_SECRET, age_seconds: int = 0) -> int:
        """Send one event once; the status that it was answered with."""
        body = orjson.dumps(event)
        signed = signature(body, secret=secret, age_seconds=age_seconds)
        headers = {"Stripe-Signature": signed, "Content-Type": "application/json"}
        async with self._http.post(self.webhook_url, data=body, headers=headers) as reply:
            self.answers.append(reply.status)
            return reply.status

    def forget_keys(self) -> None:
        """A day later: idempotency keys are pruned."""
        self._kept.clear()

    async def told(self) -> None:
        """Return when every event that happened was sent."""
        while self._sending:
            await asyncio.gather(*self._sending)

    # ---- the API

    async def _api(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {SECRET_KEY}":
            return _json(401, {"error": {"type": "invalid_request_error", "message": "Invalid API Key provided"}})
        name = request.headers.get("Idempotency-Key", "")
        self.requests.append((request.method, request.path, name))
        is_lost = bool(self.lose_every) and len(self.requests) % self.lose_every == 0
        if self.fail_requests:
            self.fail_requests -= 1
            return _json(500, {"error": {"type": "api_error", "message": "Something went wrong."}})
        text = await request.text() if request.method == "POST" else request.query_string
        asked = unfold(text)
        kept = self._kept.get(name) if name and request.method == "POST" else None
        if kept is not None and kept.asked != {"path": request.path, **asked}:
            return _json(400, {"error": {"type": "idempotency_error", "message": "Keys are for one request."}})
        if kept is not None and not kept.done:
            error = {"type": "idempotency_error", "code": "idempotency_key_in_use", "message": "In use."}
            return _json(409, {"error": error})
        replayed = kept is not None
        if kept is None:
            kept = Kept({"path": request.path, **asked})
            if name and request.method == "POST":
                self._kept[name] = kept
            try:
                kept.status, body = 200, await self._do(request.method, request.path.removeprefix("/v1/"), asked)
            except Failed as error:
                kept.status, body = error.status, error.body
            kept.body, kept.done = orjson.dumps(body), True
        if is_lost or self.lose_replies:
            self.lose_replies -= 0 if is_lost else 1
            self.lost += 1
            if request.transport is not None:  # it is gone by itself
                request.transport.abort()
        headers = {"Idempotent-Replayed": "true"} if replayed else {}
        return web.Response(
            status=kept.status, body=kept.body, content_type="application/json",
            headers={"Request-Id": self._id("req"), **headers},
        )  # fmt: skip

    async def _do(self, method: str, path: str, asked: Data) -> Data:
        for wanted, pattern, does in self._routes():
            match = re.fullmatch(pattern, path)
            if match is not None and wanted == method:
                return await does(asked, *match.groups())
        raise Failed(404, "invalid_request_error", f"Unrecognized request URL ({method}: /v1/{path}).")

    def _routes(self) -> list[tuple[str, str, Callable[..., Awaitable[Data]]]]:
        return [
            ("POST", r"customers", self._make_customer),
            ("POST", r"payment_intents", self._make_intent),
            ("GET", r"payment_intents", self._list_intents),
            ("GET", r"payment_intents/(\w+)", self._show_intent),
            ("GET", r"setup_intents/(\w+)", self._show_setup),
            ("GET", r"refunds", self._list_refunds),
            ("POST", r"checkout/sessions", self._make_session),
        ]

    async def _make_customer(self, asked: Data) -> Data:
        customer = {"id": self._id("cus"), "object": "customer", "metadata": asked.get("metadata", {})}
        return self.customers.setdefault(str(customer["id"]), customer)

    async def _make_intent(self, asked: Data) -> Data:
        _knows(asked, "amount currency customer payment_method off_session confirm metadata automatic_payment_methods")
        customer, method = asked.get("customer"), asked.get("payment_method", "")
        if customer not in self.customers:
            raise Failed(400, "invalid_request_error", "No such customer", code="resource_missing", param="customer")
        if int(asked["amount"]) < 50:
            raise Failed(400, "invalid_request_error", "Amount must be at least 50 cents", code="amount_too_small")
        intent = self._intent(int(asked["amount"]), str(customer), method, asked.get("metadata", {}))
        if asked.get("confirm") != "true":
            return intent
        redirects = asked.get("automatic_payment_methods", {}).get("allow_redirects", "always")
        if redirects != "never" and "return_url" not in asked:
            raise Failed(400, "invalid_request_error", "A `return_url` must be specified", param="return_url")
        await asyncio.sleep(self.charge_seconds)
        if method in _DECLINES:
            code, decline = _DECLINES[method]
            await self._decline(intent, code, decline)
            said = {
                name: value for name, value in intent["last_payment_error"].items() if name not in {"type", "message"}
            }
            raise Failed(402, "card_error", "Your card was declined.", **said, payment_intent=intent)
        if method == SLOW:
            intent["status"] = "processing"
        else:
            await self._succeed(intent)
        return intent

    async def _list_intents(self, asked: Data) -> Data:
        since = int(asked.get("created", {}).get("gte", 0))
        found = [
            intent
            for intent in self.intents.values()
            if intent["customer"] == asked.get("customer") and intent["created"] >= since
        ]
        page = found[::-1][: int(asked.get("limit", 10))]
        return {"object": "list", "url": "/v1/payment_intents", "has_more": len(page) < len(found), "data": page}

    async def _show_intent(self, _asked: Data, intent_id: str) -> Data:
        return _found(self.intents, intent_id)

    async def _list_refunds(self, asked: Data) -> Data:
        found = [each for each in self.refunds.values() if each["payment_intent"] == asked.get("payment_intent")]
        return {"object": "list", "url": "/v1/refunds", "has_more": False, "data": found[::-1]}

    async def _show_setup(self, _asked: Data, setup_id: str) -> Data:
        return _found(self.setups, setup_id)

    async def _make_session(self, asked: Data) -> Data:
        known = "mode currency customer client_reference_id metadata success_url cancel_url line_items"
        _knows(asked, f"{known} payment_intent_data setup_intent_data")
        if asked["mode"] == "setup" and "currency" not in asked:
            raise Failed(400, "invalid_request_error", "`currency` is required in `setup` mode", param="currency")
        for name in ("success_url", "cancel_url"):
            if not asked.get(name, "").startswith("http"):
                raise Failed(400, "invalid_request_error", "Not a valid URL", code="url_invalid", param=name)
        session_id = self._id("cs")
        total = None
        if asked["mode"] == "payment":
            (line,) = asked["line_items"].values()
            total = int(line["price_data"]["unit_amount"]) * int(line["quantity"])
        session = {
            "id": session_id, "object": "checkout.session", "mode": asked["mode"], "customer": asked.get("customer"),
            "client_reference_id": asked.get("client_reference_id"), "metadata": asked.get("metadata", {}),
            "success_url": asked["success_url"], "cancel_url": asked["cancel_url"],
            "url": f"{self.url}/checkout/{session_id}",
            "amount_total": total, "currency": "usd", "status": "open", "payment_status": "unpaid",
            "payment_intent": None, "setup_intent": None, "asked": asked,
        }  # fmt: skip
        self.sessions[session_id] = session
        return session

    # ---- the page

    async def _page(self, request: web.Request) -> web.Response:
        session = self.sessions[request.match_info["session"]]
        what = f"Pay ${session['amount_total'] / 100:.2f}" if session["amount_total"] else "Save card"
        return web.Response(
            content_type="text/html",
            text=f'<!doctype html><html lang="en"><title>Checkout</title><h1>Checkout</h1><form method="post">'
            f'<label>Card <input name="card" value="{GOOD}"></label><button>{what}</button></form>'
            f'<a href="{session["cancel_url"]}">Back</a></html>',
        )

    async def _pay(self, request: web.Request) -> web.Response:
        session = self.sessions[request.match_info["session"]]
        card = str((await request.post()).get("card", GOOD))
        if session["status"] == "open":
            session["status"] = "complete"
            asked = session["asked"]
            if session["mode"] == "payment":
                extra = asked.get("payment_intent_data", {})
                intent = self._intent(session["amount_total"], session["customer"], card, extra.get("metadata", {}))
                intent["setup_future_usage"] = extra.get("setup_future_usage")
                session |= {"payment_intent": intent["id"], "payment_status": "paid"}
                await self._succeed(intent)
            else:
                setup = {"id": self._id("seti"), "object": "setup_intent", "customer": session["customer"]}
                setup |= {"payment_method": card, "status": "succeeded", "metadata": {}}
                self.setups[str(setup["id"])] = setup
                session |= {"setup_intent": setup["id"], "payment_status": "no_payment_required"}
            await self._tell("checkout.session.completed", {k: v for k, v in session.items() if k != "asked"})
        raise web.HTTPSeeOther(session["success_url"])

    # ---- inside

    def _id(self, kind: str) -> str:
        return f"{kind}_{next(self._numbers):06d}"

    def _intent(self, cents: int, customer: str, method: str, metadata: Data) -> Data:
        intent = {
            "id": self._id("pi"), "object": "payment_intent", "amount": cents, "amount_received": 0, "currency": "usd",
            "customer": customer, "payment_method": method or None, "metadata": metadata, "created": int(time.time()),
            "status": "requires_confirmation", "last_payment_error": None, "latest_charge": None,
            "setup_future_usage": None,
        }  # fmt: skip
        self.intents[str(intent["id"])] = intent
        return intent

    def _charge(self, intent: Data) -> Data:
        charge: Data = intent.setdefault("_charge", {
            "id": intent["latest_charge"], "object": "charge", "amount": intent["amount_received"],
            "amount_refunded": 0, "currency": "usd", "payment_intent": intent["id"], "metadata": {},
        })  # fmt: skip
        return charge

    async def _succeed(self, intent: Data) -> None:
        intent |= {"status": "succeeded", "amount_received": intent["amount"], "latest_charge": self._id("ch")}
        await self._tell("payment_intent.succeeded", intent)

    async def _decline(self, intent: Data, code: str, decline: str) -> None:
        error = {"type": "card_error", "code": code, "message": "Your card was declined."}
        error |= {"decline_code": decline} if decline else {}
        intent |= {"status": "requires_payment_method", "last_payment_error": error}
        await self._tell("payment_intent.payment_failed", intent)

    async def _tell(self, kind: str, thing: Data) -> None:
        shown = {name: value for name, value in thing.items() if not name.startswith("_")}
        event = {"id": self._id("evt"), "object": "event", "type": kind, "created": int(time.time()), "livemode": False}
        event["data"] = orjson.loads(orjson.dumps({"object": shown}))
        self.events.append(event)
        if self.webhook_url:
            task = asyncio.create_task(self._send_all(event))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _send_all(self, event: Data) -> None:
        """Each copy until it is answered well, as Stripe does; shuffled ones wait a little, each for itself."""
        for _ in range(self.copies):
            for _ in range(10):
                if self.shuffled:
                    await asyncio.sleep(self._random.uniform(0, 0.2))
                try:
                    if await self.send(event) < 300:
                        break
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.1)


def signature(body: bytes, *, secret: str = WEBHOOK_SECRET, age_seconds: int = 0) -> str:
    """The header of a message, of so many seconds ago."""
    stamp = int(time.time()) - age_seconds
    digest = hmac.new(secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={stamp},v1={digest}"


def unfold(text: str) -> Data:
    """A form as Stripe reads it: `a[b][0][c]=d` is nested."""
    from urllib.parse import parse_qsl

    found: Data = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        first, *rest = re.findall(r"[^\[\]]+", name)
        place = found
        for step, following in zip([first, *rest], rest, strict=False):
            place = place.setdefault(step, {})
            first = following
        place[first] = value
    return found


def _knows(asked: Data, names: str) -> None:
    """Parameters that Stripe does not have are an error there."""
    for name in asked.keys() - set(names.split()):
        raise Failed(400, "invalid_request_error", f"Received unknown parameter: {name}", code="parameter_unknown")


def _found(things: dict[str, Data], thing_id: str) -> Data:
    if thing_id not in things:
        raise Failed(404, "invalid_request_error", "No such thing", code="resource_missing")
    return {name: value for name, value in things[thing_id].items() if not name.startswith("_")}


def _json(status: int, body: Data) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json")
