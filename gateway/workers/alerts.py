"""Alerts on their way: each is told to every target of its watch, as a delivery of its own.

Owns: which targets are told of what, how webhooks and Slack-compatible hooks are called and what their answers mean.
A delivery names its target and holds no secret: where it goes is read from the watch when it goes.
Does not know: what an alert says (core.alerts), mail (workers/mail), when something is tried again (the outbox).
"""

import base64
import hmac
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from gateway.core.alerts import ALERT, UNITS, Notice, notice_of
from gateway.core.signatures import signed_headers
from gateway.ports import PAUSES_SECONDS, Clock, Courier, Dead, Delivered, Delivery, Ledger, Retry, Watch
from gateway.upstream.outward import Outward
from gateway.workers.webhooks import call_hook

#: The channel of each kind of target.
CHANNELS: Final[Mapping[str, str]] = {"webhook": "alert_webhook", "slack": "alert_slack", "email": "alert_email"}

Target = Mapping[str, Any]
#: Tells one target of one alert, in a delivery.
Carry = Callable[[Delivery, Target, Notice], Awaitable[Delivered | Retry | Dead]]


def targets_of(watch: Watch) -> Sequence[Target]:
    """Who is told by a watch: `id` and `type` of each, and what its type needs."""
    found: Sequence[Target] = watch.data.get("to", ())
    return found


class AlertCourier:
    """Makes of an alert one delivery for each target: of the watch that found it, or of all that are for its kind."""

    pauses: Sequence[float] = PAUSES_SECONDS

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def deliver(self, delivery: Delivery) -> Delivered | Retry | Dead:
        """See `Courier`. Done again, it posts nothing twice: each delivery has an id."""
        payload = delivery.payload
        for watch in await self._ledger.watches(delivery.account):
            if watch.channel == ALERT and payload.get("watch", watch.id) == watch.id and _is_for(watch, payload):
                for target in targets_of(watch):
                    await self._ledger.post(
                        account=delivery.account,
                        delivery_id=f"{delivery.id}:{watch.id}:{target['id']}",
                        channel=CHANNELS[target["type"]],
                        payload={**payload, "watch": watch.id, "target": target["id"]},
                    )
        return Delivered()


def _is_for(watch: Watch, payload: Mapping[str, Any]) -> bool:
    """An event is told to the watches that are for its kind; a crossing, or a test, is for the watch that it names."""
    return "watch" in payload or (watch.kind == payload.get("kind") and not UNITS.get(watch.kind))


class TargetCourier:
    """Tells one target of an alert."""

    pauses: Sequence[float] = PAUSES_SECONDS

    def __init__(self, ledger: Ledger, carry: Carry) -> None:
        self._ledger = ledger
        self._carry = carry

    async def deliver(self, delivery: Delivery) -> Delivered | Retry | Dead:
        """See `Courier`."""
        payload = delivery.payload
        for watch in await self._ledger.watches(delivery.account):
            for target in targets_of(watch):
                if (watch.id, target["id"]) == (payload.get("watch"), payload.get("target")):
                    return await self._carry(delivery, target, notice_of(delivery.account, watch.id, payload))
        return Dead(why="the alert has no such target any more")


def signing_key(pepper: str, account: str, salt: str) -> bytes:
    """What the webhooks of a target are signed with: kept nowhere, made of the target's salt."""
    return hmac.digest(pepper.encode(), f"alert-webhook\0{account}\0{salt}".encode(), "sha256")


def signing_secret(pepper: str, account: str, salt: str) -> str:
    """The same as it is handed out."""
    return f"whsec_{base64.b64encode(signing_key(pepper, account, salt)).decode()}"


class HookCarrier:
    """Calls webhooks as Standard Webhooks has it, and Slack-compatible hooks with a text."""

    def __init__(self, outward: Outward, *, peppers: tuple[str, ...], clock: Clock) -> None:
        self._outward = outward
        self._peppers = peppers
        self._clock = clock

    async def webhook(self, delivery: Delivery, target: Target, notice: Notice) -> Delivered | Retry | Dead:
        """A signed message; a repeat has the same id."""
        body = orjson.dumps(
            {"type": f"alert.{notice.kind}", "timestamp": notice.at, "data": {**notice.data, "text": notice.text}}
        )
        keys = [signing_key(pepper, delivery.account, target["salt"]) for pepper in self._peppers]
        headers = signed_headers(keys, delivery.id, int(self._clock.now()), body)
        return await self._post(target["url"], body, headers)

    async def slack(self, _delivery: Delivery, target: Target, notice: Notice) -> Delivered | Retry | Dead:
        """Its text alone: what Slack, Mattermost, Discord (with /slack) and others read."""
        return await self._post(target["url"], orjson.dumps({"text": notice.text}), {})

    async def _post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Delivered | Retry | Dead:
        """Whatever is answered may be put right, but that it is gone for good (410)."""
        headers = {"Content-Type": "application/json", **headers}
        return await call_hook(self._outward, url, body, headers, refusals=(410,))


def alert_couriers(
    *, ledger: Ledger, outward: Outward, peppers: tuple[str, ...], clock: Clock, mail: Carry | None
) -> Mapping[str, Courier]:
    """The couriers of alerts, by channel. Without `mail` nobody carries that, and it waits."""
    hooks = HookCarrier(outward, peppers=peppers, clock=clock)
    carries = {"webhook": hooks.webhook, "slack": hooks.slack} | ({"email": mail} if mail is not None else {})
    targets: dict[str, Courier] = {CHANNELS[kind]: TargetCourier(ledger, carry) for kind, carry in carries.items()}
    return {ALERT: AlertCourier(ledger), **targets}
