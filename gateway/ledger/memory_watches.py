"""What is watched of one account, in memory: the part of the executable specification that finds crossings.

Owns: which watch tells of what, and when that has recovered. Every watch is looked at after everything that happens.
Does not know: how money moves, who is told.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gateway.core.money import ZERO
from gateway.core.months import month_of
from gateway.core.record import record
from gateway.ledger import rules
from gateway.ledger.memory_posts import Posts
from gateway.ports import Delivery, Grant, Key, UsageDay, Watch


@record
class Scene:
    """What has happened, and how the account stands after it.

    `moved`: the grants that a charge took from; `key`: the one that it charged; `given`: the kind of what was
    given; `swept`: it is a sweep.
    """

    account: str
    now: int
    balance: int
    grants: Mapping[str, Grant]
    moved: Iterable[str] = ()
    key: Key | None = None
    given: str = ""
    swept: bool = False


@dataclass(slots=True)
class Watches:
    """The watches of an account, and what they count."""

    kept: dict[str, Watch] = field(default_factory=dict)
    alerts: int = 0
    topped_up: int | None = None
    spent: dict[str, tuple[str, int]] = field(default_factory=dict)  # by "day" and "month": which, and how much

    @property
    def spending(self) -> bool:
        """Whether what is spent is watched."""
        return any(watch.kind in {"spent_day", "spent_month"} for watch in self.kept.values())

    def begin_spending(self, now: int, usage: Sequence[UsageDay]) -> None:
        """Begin to count: what the usage has of this day and month."""
        day, month = rules.day_of(now), month_of(now)
        self.spent = {
            "day": (day, sum(used.charged for used in usage if used.day == day)),
            "month": (month, sum(used.charged for used in usage if used.day.startswith(month))),
        }

    def count(self, now: int, charge: int) -> None:
        """Count what was charged, where it is watched."""
        if self.spending:
            for period, current in (("day", rules.day_of(now)), ("month", month_of(now))):
                counted, spent = self.spent[period]
                self.spent[period] = (current, (spent if counted == current else 0) + charge)

    def look(self, scene: Scene, posts: Posts) -> None:
        """Post what is to be told, and note what has recovered."""
        for watch_id in sorted(self.kept):
            watch = self.kept[watch_id]
            told, news = self._judged(watch, scene)
            for subject, value in news:
                self.alerts += 1
                posts.post(scene.now, self._delivery(watch, scene, subject, value))
            self.kept[watch_id] = replace(watch, told=told)

    def _judged(self, watch: Watch, scene: Scene) -> tuple[tuple[str, ...], list[tuple[str, int]]]:
        """What the watch has told after this, and what of it is new: subject and value."""
        match watch.kind:
            case "balance_below" | "balance_below_percent":
                return self._level(watch, scene)
            case "spent_day" | "spent_month":
                day = watch.kind == "spent_day"
                current = rules.day_of(scene.now) if day else month_of(scene.now)
                counted, spent = self.spent["day" if day else "month"]
                if counted == current and spent >= watch.amount and watch.told != (current,):
                    return (current,), [(current, spent)]
                return watch.told, []
            case "key_budget":
                key = scene.key
                if key is None or key.monthly_budget is None:
                    return watch.told, []
                month = month_of(scene.now)
                token = f"{key.id}:{month}"
                if key.spent < rules.percent_of(key.monthly_budget, watch.amount) or token in watch.told:
                    return watch.told, []
                return (*(past for past in watch.told if past.endswith(f":{month}")), token), [(key.id, key.spent)]
            case "job_anomaly" | "session_anomaly" | "autopay_failed" | "autopay_disabled":
                return (), []  # events: whoever learns of them posts them
            case _:
                news = [(name, left) for name, left in self._grants(watch, scene) if name not in watch.told]
                if not news:
                    return watch.told, []
                told = (*watch.told, *(name for name, _ in news))
                return tuple(name for name in told if name in scene.grants), news

    def _level(self, watch: Watch, scene: Scene) -> tuple[tuple[str, ...], list[tuple[str, int]]]:
        threshold = watch.amount
        if watch.kind == "balance_below_percent":
            if self.topped_up is None:
                return (), []
            threshold = rules.percent_of(self.topped_up, watch.amount)
        if not watch.told:
            return (("below",), [("", scene.balance)]) if scene.balance < threshold else ((), [])
        room = max(rules.percent_of(threshold, 10), rules.HEADROOM_MIN) if scene.given == "correction" else 0
        return (() if scene.given and scene.balance >= threshold + room else watch.told), []

    def _grants(self, watch: Watch, scene: Scene) -> list[tuple[str, int]]:
        """The grants that the watch would tell of, with what is left of each."""
        if watch.kind == "grant_nearly_spent":
            gone = Grant(id="", kind="goodwill", amount=ZERO, remaining=ZERO)
            moved = [(name, scene.grants.get(name, gone)) for name in scene.moved]
            return [
                (name, grant.remaining)
                for name, grant in moved
                if grant.remaining <= grant.amount - rules.percent_of(grant.amount, watch.amount)
            ]
        soon = scene.now + watch.amount * 86_400_000
        return [
            (grant.id, grant.remaining)
            for grant in scene.grants.values()
            if scene.swept and grant.expires_ms is not None and scene.now < grant.expires_ms <= soon
        ]

    def _delivery(self, watch: Watch, scene: Scene, subject: str, value: int) -> Delivery:
        payload = {
            "watch": watch.id,
            "kind": watch.kind,
            "amount": str(watch.amount),
            "subject": subject,
            "value": str(value),
            "balance": str(scene.balance),
            "at": scene.now,
        }
        return Delivery(
            account=scene.account,
            id=f"alert:{watch.id}:{self.alerts}",
            channel=watch.channel,
            payload=payload,
            created_ms=scene.now,
            due_ms=scene.now,
        )
