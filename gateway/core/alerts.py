"""What an alert says: of a crossing that a watch found, or of an event that is told when it happens.

Owns: the words, and the data that go with them. Does not know: who is told, or over which channel.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from gateway.core.money import format_usd
from gateway.core.record import record

#: The channel of the outbox that alerts are posted to.
ALERT: Final = "alert"
_HOUR_MS: Final = 3_600_000
#: What a watch compares `amount` with: nano-dollars, percent, days; or nothing, where something happens.
UNITS: Final[Mapping[str, str]] = {
    "balance_below": "usd",
    "balance_below_percent": "percent",
    "grant_nearly_spent": "percent",
    "grant_expiring": "days",
    "spent_day": "usd",
    "spent_month": "usd",
    "key_budget": "percent",
    "job_anomaly": "",
    "session_anomaly": "",
    "autopay_failed": "",
    "autopay_disabled": "",
}
#: What can be strange about a job or a session, by kind and word.
_ANOMALIES: Final[Mapping[str, Mapping[str, str]]] = {
    "job_anomaly": {
        "gone": "The service does not know a job any more",
        "expired": "A job was not over in time",
        "status_unknown": "A job's result came under a status that the gateway does not know, and was charged",
        "usage_unknown": "A job ended without a report of its usage, and was charged by an estimate",
    },
    "session_anomaly": {
        "lost": "The service was lost in the middle of a session",
        "unreported": "The service ended a session without a report of its usage, and it was charged by the clock",
        "usage_unknown": "A session ended without a report of its usage, and was charged by an estimate",
        "whole_length": "A session ran as long as any may",
        "silent": "A session was paid for, and hardly anything was sent in it",
    },
}
#: Why autopay is off where no payment failed.
_TAKEN_BACK: Final = frozenset({"refund", "dispute"})
#: ASCII, and nothing that could end a header.
_MAIL_ADDRESS: Final = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63}){1,8}"
)


def is_mail_address(text: str) -> bool:
    """Whether mail can be sent there, as far as its form tells."""
    local = text.partition("@")[0]
    return (
        len(text) <= 254 and _MAIL_ADDRESS.fullmatch(text) is not None
        and not local.startswith(".") and not local.endswith(".") and ".." not in local
    )  # fmt: skip


@record
class Notice:
    """An alert in words: a title in one line, sentences, and data (JSON data, amounts as decimal dollars)."""

    kind: str
    title: str
    text: str
    at: str
    data: Mapping[str, Any]


def anomaly(kind: str, what: str, *, product: str, call_id: str, at_ms: int) -> tuple[str, Mapping[str, Any]]:
    """The delivery that tells of a job or session that went wrong, id and payload: the first of its sort in an hour, so
    that a thousand that fail alike are one alert.
    """
    payload = {"kind": kind, "what": what, "product": product, "call_id": call_id, "at": at_ms}
    return f"alert:{kind}:{what}:{at_ms // _HOUR_MS}", payload


def notice_of(account: str, alert: str, payload: Mapping[str, Any]) -> Notice:
    """The alert that a delivery is about. What the payload lacks is left out: it is another version's, at worst."""
    kind = str(payload.get("kind", ""))
    data: dict[str, Any] = {"account": account, "alert": alert, "kind": kind}
    if UNITS.get(kind):
        data |= {_NAMES[UNITS[kind]]: _figure(UNITS[kind], payload.get("amount"))}
        data |= {"subject": payload.get("subject") or None, "value": _usd(payload.get("value"))}
        data |= {"balance": _usd(payload.get("balance")), "currency": "USD"}
    else:
        data |= {name: payload[name] for name in ("what", "product", "call_id", "why", "amount") if name in payload}
    title, text = _words(account, kind, data)
    at = datetime.fromtimestamp(int(payload.get("at", 0)) / 1000, UTC).isoformat(timespec="milliseconds")
    return Notice(kind=kind, title=title, text=text, at=at.replace("+00:00", "Z"), data=data)


_NAMES: Final = {"usd": "threshold", "percent": "percent", "days": "days"}


def _words(account: str, kind: str, data: Mapping[str, Any]) -> tuple[str, str]:
    short = {name: _short(data.get(name)) for name in ("threshold", "value", "balance")}
    subject, share = data.get("subject"), data.get("percent")
    balance = f"Its balance is {short['balance']}."
    match kind:
        case "balance_below":
            said = f"the balance is below {short['threshold']}"
        case "balance_below_percent":
            said = f"the balance is below {share} % of the last top-up"
        case "grant_nearly_spent":
            said = f"{share} % of a grant are spent"
            balance = f"Of grant {subject}, {short['value']} is left. {balance}"
        case "grant_expiring":
            said = f"credit expires within {data.get('days')} days"
            balance = f"Of grant {subject}, {short['value']} is left. {balance}"
        case "spent_day" | "spent_month":
            period = "today" if kind == "spent_day" else "this month"
            said = f"more than {short['threshold']} is spent {period}"
            balance = f"{short['value']} was spent ({subject}, UTC). {balance}"
        case "key_budget":
            said = f"a key has spent {share} % of its monthly budget"
            balance = f"Key {subject} has spent {short['value']} this month. {balance}"
        case "job_anomaly" | "session_anomaly":
            thing = kind.partition("_")[0]
            said = f"a {thing} went wrong"
            what = _ANOMALIES[kind].get(str(data.get("what")), f"Something was wrong with a {thing}")
            call = f"call {data.get('call_id')} of {data.get('product')}"
            balance = f"{what}: {call}. More of the same within the hour are not told."
        case "autopay_failed" | "autopay_disabled":
            over = kind == "autopay_disabled"
            said = "autopay is off" if over else "a payment of autopay failed"
            balance = "Too many payments failed one after the other." if over else "It is tried again."
            balance += f" The last reason was: {data['why']}." if data.get("why") else ""
            if over and data.get("why") in _TAKEN_BACK:
                balance = (
                    f"A payment was taken back ({data['why']}). Nobody is charged until somebody turns it on again."
                )
        case "test":
            said, balance = "a test", "This is a test of an alert. Nothing has happened."
        case _:
            said, balance = "something happened", ""
    title = f"Account {account}: {said}"
    return title, f"{title}. {balance}".strip()


def _figure(unit: str, amount: Any) -> str | int | None:
    return _usd(amount) if unit == "usd" else None if amount is None else int(amount)


def _usd(amount: Any) -> str | None:
    return None if amount is None else format_usd(int(amount))


def _short(amount: Any) -> str:
    """Dollars as a person writes them: cents, and more only where there is more."""
    if not isinstance(amount, str):
        return "an unknown amount"
    whole, _, fraction = amount.lstrip("-").partition(".")
    return f"{'-' if amount.startswith('-') else ''}${int(whole):,}.{fraction.rstrip('0').ljust(2, '0')}"
