"""What may be done with an account's alerts, once, for the admin API, the customers' API and the billing page.

Owns: how an alert is kept as a watch, and what is shown of it: no secret but that of a new webhook, once.
Does not know: HTTP, how a crossing is found (the ledger), how somebody is told (workers/alerts).
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from gateway.core.alerts import ALERT, UNITS
from gateway.core.errors import LedgerRefused
from gateway.core.money import Nanos, format_usd
from gateway.edge.operations.accounts import Operation
from gateway.edge.operations.alert_bodies import PutAlert, SlackTarget, WebhookTarget
from gateway.edge.operations.alert_bodies import Target as AskedTarget
from gateway.edge.operations.bodies import Invalid, Problem
from gateway.edge.operations.fields import is_id
from gateway.edge.operations.views import CURRENCY, Data
from gateway.ports import Clock, Ledger, Watch
from gateway.settings.runtime import Runtime
from gateway.upstream.outward import Outward
from gateway.workers.alerts import Target, signing_secret, targets_of

#: An account's tests in an hour: whoever has a key must not send mails to others without end.
TESTS_PER_HOUR_MAX: Final = 10
_HOUR_SECONDS: Final = 3600


class UnknownAlert(LedgerRefused):
    """The account has no alert of this id."""


class TooManyTests(LedgerRefused):
    """The account's alerts were tested often enough in this hour."""


class AlertOperations:
    """What may be done with alerts. Answers plain data; raises UnknownAlert, Invalid, and what the ledger raises."""

    def __init__(self, *, ledger: Ledger, runtime: Runtime, clock: Clock) -> None:
        self._ledger = ledger
        self._pepper = runtime.key_pepper
        self._mails = runtime.smtp is not None
        self._clock = clock
        # Asked whom it would call; it calls nobody here, and opens nothing.
        self._outward = Outward(allow=runtime.outward.allow, plain_http=runtime.outward.plain_http)

    async def list_alerts(self, account: str) -> Data:
        """All of the account's alerts."""
        return {"items": [view_alert(watch) for watch in await self._alerts(account)], "next": None}

    async def put_alert(self, account: str, alert: str, body: PutAlert, operation: Operation) -> Data:
        """Set an alert. New webhooks are answered with their `secret`, again only to a repeat of the operation."""
        if not is_id(alert):
            raise LedgerRefused("the id of an alert has 1 to 63 of a-z, 0-9, _ and -, a letter or a digit first")
        problems = [
            Problem(f"/to/{place}", problem)
            for place, target in enumerate(body.to)
            if (problem := self._objection(target))
        ]
        if problems:
            raise Invalid(problems)
        past = {watch.id: watch for watch in await self._ledger.watches(account)}.get(alert)
        if past is not None and past.channel != ALERT:
            raise LedgerRefused(f"{alert!r} is a name that alerts cannot have")
        known = {} if past is None else {target["id"]: target for target in targets_of(past)}
        kept = [self._kept(asked, known, operation) for asked in body.to]
        to = list({target["id"]: target for target in kept}.values())
        watch = Watch(id=alert, kind=body.kind, amount=body.figure, channel=ALERT, data={"to": to})
        shown = view_alert(await self._ledger.put_watch(account=account, watch=watch))
        for target, told in zip(shown["to"], to, strict=True):
            if told["type"] != "webhook":
                continue
            if told != known.get(told["id"]) or told["salt"] == _token(operation, told["id"]):
                target["secret"] = signing_secret(self._pepper, account, told["salt"])
        return shown

    async def drop_alert(self, account: str, alert: str) -> Data:
        """Take an alert away. What it has found already is told to nobody."""
        await self._found(account, alert)
        await self._ledger.drop_watch(account=account, watch_id=alert)
        return {"account": account, "id": alert, "dropped": True}

    async def test_alert(self, account: str, alert: str, operation: Operation) -> Data:
        """Tell every target of an alert that this is a test. The deliveries are answered by the outbox's reading."""
        await self._found(account, alert)
        now, token = self._clock.now(), _token(operation, alert)
        hour = int(now) // _HOUR_SECONDS
        for number in range(TESTS_PER_HOUR_MAX):
            name = f"alert-test:{hour}:{number}"
            if await self._ledger.use_once(account=account, name=name, by=token, seconds=_HOUR_SECONDS):
                break
        else:
            raise TooManyTests(f"an account's alerts are tested at most {TESTS_PER_HOUR_MAX} times in an hour")
        delivery = f"alert:{alert}:test-{token}"
        payload = {"kind": "test", "watch": alert, "at": int(now * 1000)}
        await self._ledger.post(account=account, delivery_id=delivery, channel=ALERT, payload=payload)
        return {"account": account, "id": alert, "delivery": delivery}

    async def _alerts(self, account: str) -> list[Watch]:
        return [watch for watch in await self._ledger.watches(account) if watch.channel == ALERT]

    async def _found(self, account: str, alert: str) -> Watch:
        for watch in await self._alerts(account):
            if watch.id == alert:
                return watch
        raise UnknownAlert(f"the account has no alert {alert!r}")

    def _objection(self, target: AskedTarget) -> str:
        if isinstance(target, WebhookTarget | SlackTarget):
            return self._outward.objection(target.url)
        return "" if self._mails else "no mails are sent here: the config has no alerts.smtp"

    def _kept(self, asked: AskedTarget, known: Mapping[str, Target], operation: Operation) -> Target:
        """A target as its watch keeps it. One that is told already keeps its id, and its secret."""
        place = asked.url if isinstance(asked, WebhookTarget | SlackTarget) else asked.address
        name = hashlib.sha256(f"{asked.type}\0{place}".encode()).hexdigest()[:12]
        if not isinstance(asked, WebhookTarget):
            where = {"url": place} if asked.type == "slack" else {"address": place}
            return {"id": name, "type": asked.type, **where}
        salt = _token(operation, name) if asked.rotate or name not in known else known[name]["salt"]
        return {"id": name, "type": "webhook", "url": place, "salt": salt}


def _token(operation: Operation, about: str) -> str:
    """Nothing else has it, but a repeat of the operation."""
    return hashlib.sha256(f"{operation.id} {about}".encode()).hexdigest()[:16]


def view_alert(watch: Watch) -> Data:
    """An alert. Of URLs the host is shown: the rest of a hook's is its password."""
    unit = UNITS[watch.kind]
    figures: dict[str, Any] = {
        "amount": format_usd(Nanos(watch.amount)) if unit == "usd" else None,
        "percent": watch.amount if unit == "percent" else None,
        "days": watch.amount if unit == "days" else None,
    }
    to = [
        {"type": target["type"], "address": target["address"]}
        if target["type"] == "email"
        else {"type": target["type"], "url": _host_of(target["url"])}
        for target in targets_of(watch)
    ]
    return {"id": watch.id, "kind": watch.kind, **figures, **CURRENCY, "to": to, "told": list(watch.told)}


def _host_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/..."
