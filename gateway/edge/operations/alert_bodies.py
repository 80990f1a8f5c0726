"""What may be asked of an account's alerts, checked whole.

Owns: the fields and their bounds; which figure a kind needs. Does not know: HTTP, whom a URL may reach.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from gateway.core.alerts import UNITS, is_mail_address
from gateway.edge.operations.bodies import Body
from gateway.edge.operations.fields import UsdAboveZero
from gateway.ports import WatchKind

TARGETS_MAX = 5
URL_LENGTH_MAX = 1000


def _address(value: str) -> str:
    if not is_mail_address(value):
        raise ValueError("this is not an address that mail can be sent to")
    return value


Url = Annotated[str, Field(min_length=1, max_length=URL_LENGTH_MAX)]


class WebhookTarget(Body):
    """A URL that gets signed messages. `rotate`: by a new secret; without, a URL that is told already keeps its own."""

    type: Literal["webhook"]
    url: Url
    rotate: bool = False


class SlackTarget(Body):
    """A Slack-compatible incoming hook."""

    type: Literal["slack"]
    url: Url


class EmailTarget(Body):
    """An address that gets mails."""

    type: Literal["email"]
    address: Annotated[str, Field(max_length=254), AfterValidator(_address)]


Target = Annotated[WebhookTarget | SlackTarget | EmailTarget, Field(discriminator="type")]


class PutAlert(Body):
    """An alert: what it tells of, and whom. `amount`, `percent` or `days` as its kind needs."""

    kind: WatchKind
    amount: UsdAboveZero | None = None
    percent: Annotated[int, Field(ge=1, le=100)] | None = None
    days: Annotated[int, Field(ge=1, le=366)] | None = None
    to: Annotated[list[Target], Field(min_length=1, max_length=TARGETS_MAX)]

    @model_validator(mode="after")
    def _figures(self) -> "PutAlert":
        needed = {"usd": "amount"}.get(UNITS[self.kind], UNITS[self.kind])
        given = {name for name in ("amount", "percent", "days") if getattr(self, name) is not None}
        if given != ({needed} if needed else set()):
            raise ValueError(f"{self.kind} needs {needed or 'no figure'}, and nothing else of amount, percent and days")
        return self

    @property
    def figure(self) -> int:
        """What is watched for, as the ledger has it."""
        return self.amount or self.percent or self.days or 0
