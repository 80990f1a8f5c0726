"""What the pages about funds and alerts show, made of what the operations answer.

Owns: an alert in words. Pure. Does not know: the operations, how facts are laid out (templates).
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from gateway.core.money import Nanos, parse_usd
from gateway.core.record import record
from gateway.edge.pages.wording import date_time


@record
class AutopayLine:
    """Autopay as it is set and stands, in dollars as text; what of it can be changed."""

    enabled: bool
    threshold: str
    target: str
    monthly_cap: str
    paid: Nanos
    card: bool
    provider: str
    state: str
    why: str
    charging: str
    retry: str
    asks: bool


def autopay(shown: Mapping[str, Any]) -> AutopayLine:
    """From what operations/autopay answers."""
    return AutopayLine(
        enabled=shown["enabled"],
        threshold=_cents(shown["threshold"]),
        target=_cents(shown["target"]),
        monthly_cap=_cents(shown["monthly_cap"] or ""),
        paid=parse_usd(shown["paid_this_month"]),
        card=shown["card"],
        provider=shown["provider"] or "",
        state=shown["state"],
        why=(shown["why"] or "").replace("_", " "),
        charging=_cents(shown["charging"] or ""),
        retry=_minute(shown["retry_at"]) if shown["retry_at"] else "",
        asks=shown["why"] == "authentication_required",
    )


def _minute(iso: str) -> str:
    return date_time(int(datetime.fromisoformat(iso).timestamp() * 1000))


def _cents(text: str) -> str:
    """An amount of whole cents without the decimals that it does not have."""
    return text.removesuffix("0000000")


#: What alerts tell of: kind, in words, the unit of its figure.
ALERT_KINDS: Final = (
    ("balance_below", "the balance falls below", "dollars"),
    ("balance_below_percent", "the balance falls below a part of the last purchase", "percent"),
    ("spent_day", "a day's spend passes", "dollars"),
    ("spent_month", "a month's spend passes", "dollars"),
    ("key_budget", "a key has used so much of its budget", "percent"),
    ("grant_nearly_spent", "so much of a grant is spent", "percent"),
    ("grant_expiring", "a grant expires within", "days"),
    ("autopay_failed", "autopay could not charge", ""),
    ("autopay_disabled", "autopay gave up", ""),
    ("job_anomaly", "a job went astray", ""),
    ("session_anomaly", "a session went astray", ""),
)


@record
class AlertLine:
    """An alert in words: when it tells, and whom."""

    id: str
    when: str
    to: tuple[tuple[str, str], ...]
    told: bool


def alert(shown: Mapping[str, Any]) -> AlertLine:
    """From what operations/alerts answers."""
    known = {kind: (words, unit) for kind, words, unit in ALERT_KINDS}
    words, unit = known.get(shown["kind"], (shown["kind"], ""))
    figures = {
        "dollars": f" ${_cents(shown['amount'] or '')}",
        "percent": f": {shown['percent']} %",
        "days": f" {shown['days']} days",
    }
    return AlertLine(
        id=shown["id"],
        when=words + (figures[unit] if unit else ""),
        to=tuple((each["type"], each.get("address") or each.get("url", "")) for each in shown["to"]),
        told=bool(shown["told"]),
    )
