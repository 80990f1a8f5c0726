"""The routes on one account that both APIs have: operators at `/accounts/{account}`, its owner at its own.

Owns: their rows of the tables, once. Does not know: which API has them, whose account it is, who may use them.
"""

from dataclasses import replace
from typing import Final, Protocol

from gateway.edge.api.admin_answers import DAY
from gateway.edge.api.endpoints import FORMAT, LIMIT, Ask, Endpoint, Parameter, Text, choice
from gateway.edge.operations.alert_bodies import PutAlert
from gateway.edge.operations.alerts import AlertOperations, UnknownAlert
from gateway.edge.operations.autopay import AutopayOperations
from gateway.edge.operations.autopay_bodies import AddFunds, ChangeAutopay
from gateway.edge.operations.commitments import CommitmentOperations
from gateway.edge.operations.fields import is_id
from gateway.edge.operations.jobs import JobReading
from gateway.edge.operations.usage import COLUMNS, UsageOperations, summed, usage_csv
from gateway.edge.operations.views import Data
from gateway.ports import ResourceRef

_SINCE: Final = Parameter("since", DAY, "The first day (UTC)")
_UNTIL: Final = Parameter("until", DAY, "The day after the last (UTC)")
_BY: Final = choice("by", "all", "day", "product", "key", "project", meaning="Which column is summed up by")
#: What goes wrong where a provider of payments is asked.
PAYING: Final = ("payment_refused", "provider_unavailable")


class AccountDesk(Protocol):
    """The operations that the desks of both APIs have."""

    @property
    def usage(self) -> UsageOperations:
        """What was used."""

    @property
    def autopay(self) -> AutopayOperations:
        """Payments and autopay."""

    @property
    def jobs(self) -> JobReading:
        """Jobs."""

    @property
    def commitments(self) -> CommitmentOperations:
        """What is committed to."""

    @property
    def alerts(self) -> AlertOperations:
        """Alerts."""


async def _show_usage(desk: AccountDesk, ask: Ask) -> Data | Text:
    by, form = ask.choice(_BY), ask.choice(FORMAT)
    shown = await desk.usage.show_usage(ask.account, since=ask.query.get("since", ""), until=ask.query.get("until", ""))
    columns: tuple[str, ...] = COLUMNS
    if by != "all":
        shown["items"] = summed(shown["items"], by)
        columns = (by, "calls", "charged", "currency")
    return Text(usage_csv(shown, columns), "text/csv") if form == "csv" else shown


def job_of(ask: Ask) -> ResourceRef:
    """The job that a path names."""
    return ResourceRef(kind=ask.parts["kind"], id=ask.parts["job"])


def _alert(ask: Ask) -> str:
    if not is_id(ask.parts["alert"]):
        raise UnknownAlert("no alert has an id of this form")
    return ask.parts["alert"]


_ROUTES: Final[tuple[Endpoint[AccountDesk], ...]] = (
    Endpoint(
        method="GET",
        path="/jobs",
        scope="read",
        summary="Open jobs that are followed, the next one to be looked at first, then those that wait for their place",
        deed=lambda desk, ask: desk.jobs.list_jobs(ask.account, limit=ask.page[1]),
        answer="JobPage",
        query=(LIMIT,),
    ),
    Endpoint(
        method="GET",
        path="/jobs/{kind}/{job}",
        scope="read",
        summary="One job, over or not",
        deed=lambda desk, ask: desk.jobs.show_job(ask.account, job_of(ask)),
        answer="Job",
        problems=("unknown_job",),
    ),
    Endpoint(
        method="GET",
        path="/usage",
        scope="read",
        summary="What was charged, by day, product, key and project",
        deed=_show_usage,
        answer="Usage",
        query=(_SINCE, _UNTIL, _BY, FORMAT),
    ),
    Endpoint(
        method="GET",
        path="/commitment",
        scope="read",
        summary="What the account commits to pay in each calendar month, and how far this month is",
        deed=lambda desk, ask: desk.commitments.show(ask.account),
        answer="Commitment",
    ),
    Endpoint(
        method="GET",
        path="/autopay",
        scope="read",
        summary="The account's autopay: what it is set to, and how it stands",
        deed=lambda desk, ask: desk.autopay.show_autopay(ask.account),
        answer="Autopay",
    ),
    Endpoint(
        method="PATCH",
        path="/autopay",
        scope="billing",
        summary="Change the account's autopay",
        deed=lambda desk, ask: desk.autopay.change_autopay(ask.account, ask.body(ChangeAutopay), ask.operation.id),
        body=ChangeAutopay,
        answer="Autopay",
        problems=PAYING,
    ),
    Endpoint(
        method="POST",
        path="/funds",
        scope="billing",
        summary="Make a page of the payment service's to pay, or to add a card, at",
        deed=lambda desk, ask: desk.autopay.add_funds(ask.account, ask.body(AddFunds), ask.operation.id),
        body=AddFunds,
        answer="Funds",
        status=201,
        problems=PAYING,
    ),
    Endpoint(
        method="GET",
        path="/alerts",
        scope="read",
        summary="The account's alerts",
        deed=lambda desk, ask: desk.alerts.list_alerts(ask.account),
        answer="AlertPage",
    ),
    Endpoint(
        method="PUT",
        path="/alerts/{alert}",
        scope="billing",
        summary="Set an alert",
        deed=lambda desk, ask: desk.alerts.put_alert(ask.account, _alert(ask), ask.body(PutAlert), ask.operation),
        body=PutAlert,
        names_itself=True,
        answer="NewAlert",
        problems=("unknown_alert",),
    ),
    Endpoint(
        method="DELETE",
        path="/alerts/{alert}",
        scope="billing",
        summary="Take an alert away",
        deed=lambda desk, ask: desk.alerts.drop_alert(ask.account, _alert(ask)),
        names_itself=True,
        answer="DroppedAlert",
        problems=("unknown_alert",),
    ),
    Endpoint(
        method="POST",
        path="/alerts/{alert}/test",
        scope="billing",
        summary="Tell every target of an alert that this is a test",
        deed=lambda desk, ask: desk.alerts.test_alert(ask.account, _alert(ask), ask.operation),
        names_itself=True,
        answer="TestedAlert",
        problems=("unknown_alert", "too_many_tests"),
    ),
)


def for_operators(below: str) -> tuple[Endpoint[AccountDesk], ...]:
    """The routes with the scopes that they take, below the path that names an account."""
    return tuple(replace(route, path=below + route.path) for route in _ROUTES)


def for_owners() -> tuple[Endpoint[AccountDesk], ...]:
    """The routes for whoever has a key of the account, which is in no path and takes no scope."""
    return tuple(replace(route, scope="") for route in _ROUTES)
