"""What both ledgers agree on before they look at what is stored: bounds and ids.

Owns: the checks of what administrators and pipelines hand in, the words of what is refused, names of grants.
Does not know: how anything is stored, what an entry says for itself (`entry_data`).
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, Final

from gateway.core.commitments import CHANGES_MAX, Commitment
from gateway.core.errors import LedgerRefused
from gateway.core.money import BALANCE_MAX, NANOS_PER_USD, format_usd
from gateway.core.months import is_month
from gateway.ports import Entry, Key, Plan, Renewal, Settlement, Watch

#: How long an admitted free call that was counted in a rate is remembered, so that its repeat is not counted too.
FREE_CALL_MS: Final = 60_000
#: Thirteen digits of milliseconds: the year 2286. "Never" sorts after every time that may be written.
NEVER_MS: Final = 9_999_999_999_999
EXPIRES_MS_MAX: Final = NEVER_MS - 1
PRIORITY_MAX: Final = 1_000_000
#: What a correction gives back burns before every other grant.
CORRECTION_PRIORITY: Final = -PRIORITY_MAX - 1
#: What is kept of a grant that is over burns after all others.
LAPSED_PRIORITY: Final = PRIORITY_MAX + 1
#: The largest number that scripts compare exactly. A larger charge would fail in the middle of one, every time.
CHARGE_MAX: Final = 2**53 - 1
#: The log of what administrators did keeps so many lines, or a few more.
AUDIT_LINES_MAX: Final = 100_000
CHANGEABLE: Final = ("name", "project", "disabled", "expires_ms", "products", "monthly_budget", "billing")
#: A digest of a key finds it for so long after another one does.
MOVED_SECONDS: Final = 7 * 86_400
#: Places of jobs for which nothing is held, while their account has no credit and nobody says how many.
WITHOUT_CREDIT: Final = 1
TOO_MANY_WATCHES: Final = "the account has as many watches as it may"
TOO_MANY_OVERRIDES: Final = "the account would have more overrides than it may"
TOO_MUCH: Final = f"the balance would pass {format_usd(BALANCE_MAX)} USD, the most an account may hold"
DIGEST_TAKEN: Final = "another key has this secret"
MONTH_OVER: Final = "the month is over: what is committed to changes from this one on"
KEY_EXPIRED: Final = "the key would have expired already"
ALREADY_EXPIRED: Final = "the grant would have expired already"
NOTHING_LEFT: Final = "the account has no such grant with something left"
#: How many deliveries of an account may wait, and so many more that are not its clients' webhooks: a target that is
#: away keeps no payment from being made. How many dead letters it has, and for how long. As in outbox.lua.
WAITING_MAX: Final = 10_000
OWN_MAX: Final = 1000
WEBHOOK: Final = "webhook"
DEAD_MAX: Final = 1000
DEAD_SECONDS: Final = 30 * 86_400
PAYLOAD_BYTES_MAX: Final = 65_536
#: Jobs that one listing has at the most: more than plans let wait.
QUEUED_MAX: Final = 1_000_000
#: Accounts whose waiting jobs are counted for the metrics.
QUEUES_MAX: Final = 1_000
DELAY_SECONDS_MAX: Final = 366 * 86_400
#: Watches of an account, and the bytes of each one's data.
WATCHES_MAX: Final = 20
WATCH_BYTES_MAX: Final = 8192
#: How far above its threshold, at least, a correction must lift a balance for it to have recovered. As in watch.lua.
HEADROOM_MIN: Final = NANOS_PER_USD
#: How many days of usage an account keeps, counted from the last new line of a month. As in charge.lua.
USAGE_DAYS: Final = 400
#: The most that one charge adds to a volume, in millionths of a unit.
VOLUME_MAX: Final = 10**16
#: With this begin the operations of repairs: their entries vouch for those before them.
REPAIR: Final = "repair:"
SEPARATOR: Final = "\x1f"  # between the fields of a stored record

_ENTRY_ID: Final = re.compile(r"\d{1,19}-\d{1,19}")
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,127}")

_DELIVERY_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@~-]{0,255}")
_WATCH_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,63}")
_WATCHED: Final = {
    "balance_below": (0, BALANCE_MAX),
    "balance_below_percent": (1, 100),
    "grant_nearly_spent": (1, 100),
    "grant_expiring": (1, 366),
    "spent_day": (1, BALANCE_MAX),
    "spent_month": (1, BALANCE_MAX),
    "key_budget": (1, 100),
    "job_anomaly": (0, 0),
    "session_anomaly": (0, 0),
    "autopay_failed": (0, 0),
    "autopay_disabled": (0, 0),
}
_CHANNEL: Final = re.compile(r"[a-z][a-z_]{0,31}")


def ms(seconds: float) -> str:
    """Milliseconds, as scripts take them."""
    return str(round(seconds * 1000))


def check_volumes(volumes: Mapping[str, int]) -> None:
    """What one charge may add to its month."""
    for sku, volume in volumes.items():
        if not sku or SEPARATOR in sku or not 0 < volume <= VOLUME_MAX:
            raise LedgerRefused(f"{volume} millionths of {sku!r} cannot be counted")


def grant_id(number: int) -> str:
    """The name of an account's n-th grant; names sort by age."""
    return f"g{number:08d}"


def day_of(at_ms: int) -> str:
    """The day (UTC) of a time: "2026-11-27"."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d")


def percent_of(number: int, percent: int) -> int:
    """So many percent of an amount, rounded down."""
    return number * percent // 100


def check_commitment(month: str, amount: int) -> None:
    """What may be committed to."""
    if not is_month(month):
        raise LedgerRefused(f"{month!r} is no month: write it like 2026-12")
    if not 0 <= amount <= BALANCE_MAX:
        raise LedgerRefused(f"a commitment is between 0 and {format_usd(BALANCE_MAX)} USD")


def check_changes_of(commitment: Commitment) -> None:
    """How often it may change."""
    if len(commitment.amounts) > CHANGES_MAX:
        raise LedgerRefused(f"a commitment changes at most {CHANGES_MAX} times in months to come")


def check_settlement(settlement: Settlement) -> None:
    """A charge is never a gift, and is the sum of its lines."""
    charge = settlement.charge
    if charge.amount < 0 or sum([item.amount for item in charge.items]) != charge.amount:
        raise LedgerRefused(f"the charge of hold {settlement.hold_id!r} is not the sum of its items")
    if charge.amount > CHARGE_MAX:
        raise LedgerRefused(f"the charge of hold {settlement.hold_id!r} is more than the store can count")


def check_renewal(renewal: Renewal) -> None:
    """One session's two slices. What the pipeline puts together wrongly is a fault of ours, not of a caller."""
    used, next_ = renewal.settlement, renewal.request
    check_settlement(used)
    assert (used.account, used.key_id) == (next_.account, next_.key_id), "both slices are one session's"
    assert used.hold_id != next_.hold_id, "each slice has a hold of its own"
    assert next_.terms.metered and not next_.terms.rates and not next_.resources, "a session is counted when it opens"
    assert next_.estimate >= 0 and next_.terms.overdraft >= 0, "amounts of an admission are not negative"


def check_id(what: str, value: str) -> None:
    """Ids become parts of key names and log lines: short, and of plain characters."""
    if _ID.fullmatch(value) is None:
        raise LedgerRefused(f"{value!r} is no id of {what}: use up to 128 of A-Z a-z 0-9 . _ @ -")


def check_days(since: str, until: str) -> list[str]:
    """The months that have days from `since` to the one before `until`, each as "2026-11"."""
    try:
        first, end = date.fromisoformat(since), date.fromisoformat(until)
    except ValueError:
        raise LedgerRefused(f"{since!r} and {until!r} must be days, like 2026-11-27") from None
    if (end - first).days > USAGE_DAYS:
        raise LedgerRefused(f"usage is told for at most {USAGE_DAYS} days at once")
    count = (end.year - first.year) * 12 + end.month - first.month
    months = [divmod(first.year * 12 + first.month - 1 + n, 12) for n in range(count + 1)] if first < end else []
    return [f"{year:04}-{month + 1:02}" for year, month in months]


def account_changes(plan: Plan | None, tier: str | None, rate_card: str | None, status: str | None) -> dict[str, str]:
    """The fields of an account that a change names."""
    assert plan is None or (tier is None and rate_card is None), "a plan is both of them"
    if plan is not None:
        tier, rate_card = plan.tier, plan.rate_card
    named = {"tier": tier, "rate_card": rate_card, "status": status}
    return {name: value for name, value in named.items() if value is not None}


def check_entry_id(entry_id: str) -> None:
    """An id that entries() gave, or nothing."""
    if entry_id and _ENTRY_ID.fullmatch(entry_id) is None:
        raise LedgerRefused(f"{entry_id!r} is no id of an entry")


def check_line_id(line_id: str) -> None:
    """An id that audited() gave, or nothing."""
    if line_id and _ENTRY_ID.fullmatch(line_id) is None:
        raise LedgerRefused(f"{line_id!r} is no id of a line of the audit log")


def check_new_account(account: str, signup: int) -> None:
    """What an account may be opened with."""
    check_id("an account", account)
    if not 0 <= signup <= BALANCE_MAX:
        raise LedgerRefused(TOO_MUCH if signup > 0 else "a signup grant is not negative")


def check_grant(amount: int, priority: int, expires_ms: int | None) -> None:
    """What may be given."""
    if amount <= 0:
        raise LedgerRefused("a grant is more than nothing")
    if amount > BALANCE_MAX:
        raise LedgerRefused(TOO_MUCH)
    if abs(priority) > PRIORITY_MAX:
        raise LedgerRefused(f"a priority is between -{PRIORITY_MAX} and {PRIORITY_MAX}")
    _check_time(expires_ms)


def check_refund(amount: int | None) -> None:
    """What may be given back at once; None: all that is left of the charge."""
    if amount is not None and not 0 < amount <= BALANCE_MAX:
        raise LedgerRefused("a refund is more than nothing, and at most what an account may hold")


def charge_of(found: Sequence[Entry], entry_id: str) -> Entry:
    """The charge of this id."""
    if not found or found[0].kind != "charge":
        raise LedgerRefused(f"the account has no charge {entry_id!r}")
    return found[0]


def refunded_already(left: int) -> str:
    """Why a charge is not given back."""
    return f"of this charge {format_usd(left)} USD can still be given back"


def no_charge_of(call_id: str) -> str:
    """Why a call is not corrected."""
    return f"the account has no charge of call {call_id!r}"


def left_of(call_id: str, left: int) -> str:
    """Why no more of a call comes back."""
    return f"of what call {call_id!r} was charged {format_usd(max(0, left))} USD can still come back"


def check_correction(amount: int) -> None:
    """What may be corrected at once."""
    if amount == 0:
        raise LedgerRefused("a correction of nothing changes nothing")
    if amount > BALANCE_MAX:
        raise LedgerRefused(TOO_MUCH)
    if -amount > CHARGE_MAX:
        raise LedgerRefused("the correction is more than the store can count")


def check_key(key: Key) -> None:
    """What a key may be."""
    check_id("a key", key.id)
    check_changes({name: getattr(key, name) for name in CHANGEABLE})


def written_of(key: Key) -> dict[str, Any]:
    """What is written of a new key. What it may by default is not: its digest is that of the versions before."""
    facts = {name: getattr(key, name) for name in CHANGEABLE}
    if key.billing == "manage":
        del facts["billing"]
    return facts


def check_changes(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The changes of a key, with `products` as a tuple."""
    for name, value in changes.items():
        match name, value:
            case (("name" | "project"), str()) if SEPARATOR not in value:
                pass
            case "disabled", bool():
                pass
            case "expires_ms", None | int():
                _check_time(value)
            case "products", None:
                pass
            case "products", list() | tuple() if all(isinstance(one, str) and SEPARATOR not in one for one in value):
                pass
            case "monthly_budget", None:
                pass
            case "billing", "manage" | "read" | "none":
                pass
            case "monthly_budget", int() if 0 <= value <= BALANCE_MAX:
                pass
            case _:
                raise LedgerRefused(f"a key's {name} cannot be {value!r}")
    found = dict(changes)
    if found.get("products") is not None:
        found["products"] = tuple(found["products"])
    return found


def earliest(*times_ms: int | None) -> int | None:
    """Of these times, each checked, the first to come; None where there is none."""
    for time_ms in times_ms:
        _check_time(time_ms)
    return min((time_ms for time_ms in times_ms if time_ms is not None), default=None)


def _check_time(expires_ms: int | None) -> None:
    if expires_ms is not None and not 0 < expires_ms <= EXPIRES_MS_MAX:
        raise LedgerRefused("an expiry is in milliseconds since 1970, of at most thirteen digits")


def check_delivery(delivery_id: str, channel: str, payload: bytes, seconds: float) -> None:
    """What may be posted."""
    if _DELIVERY_ID.fullmatch(delivery_id) is None:
        raise LedgerRefused(f"{delivery_id!r} is no id of a delivery: use up to 256 of A-Z a-z 0-9 . _ : @ ~ -")
    if _CHANNEL.fullmatch(channel) is None:
        raise LedgerRefused(f"{channel!r} is no channel: use up to 32 of a-z _")
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise LedgerRefused(f"the payload of delivery {delivery_id!r} has more than {PAYLOAD_BYTES_MAX} bytes")
    if not 0 <= seconds <= DELAY_SECONDS_MAX:
        raise LedgerRefused(f"a delivery is due within {DELAY_SECONDS_MAX} seconds")


def check_watch(watch: Watch, data: bytes) -> None:
    """What may be watched."""
    if _WATCH_ID.fullmatch(watch.id) is None:
        raise LedgerRefused(f"{watch.id!r} is no id of a watch: use up to 64 of A-Z a-z 0-9 . _ ~ -")
    if _CHANNEL.fullmatch(watch.channel) is None:
        raise LedgerRefused(f"{watch.channel!r} is no channel: use up to 32 of a-z _")
    least, most = _WATCHED.get(watch.kind, (1, 0))
    if not least <= watch.amount <= most:
        raise LedgerRefused(f"{watch.kind} cannot be watched for {watch.amount}: it is {least} to {most}")
    if len(data) > WATCH_BYTES_MAX:
        raise LedgerRefused(f"the data of watch {watch.id!r} has more than {WATCH_BYTES_MAX} bytes")


def reason(why: str) -> str:
    """Why a delivery did not arrive: one short line."""
    return "".join(letter if letter.isprintable() else " " for letter in why[:200])
