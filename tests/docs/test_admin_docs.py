"""The admin API's reference says everything that the API has, and nothing else."""

import re
from pathlib import Path

import pytest

from gateway.edge.admin import ROUTES
from gateway.edge.admin_bodies import AddKey, Body, ChangeAccount, ChangeKey, Correct, GiveGrant, OpenAccount, SettleJob
from gateway.edge.admin_problems import PROBLEMS
from gateway.edge.alert_bodies import PutAlert
from gateway.edge.autopay_bodies import AddFunds, ChangeAutopay, FailPayment, TellPayment

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "admin-api.md"
BODIES: dict[str, type[Body]] = {
    "PUT /admin/accounts/{account}/alerts/{alert}": PutAlert,
    "POST /admin/accounts": OpenAccount,
    "PATCH /admin/accounts/{account}": ChangeAccount,
    "POST /admin/accounts/{account}/keys": AddKey,
    "PATCH /admin/accounts/{account}/keys/{key}": ChangeKey,
    "POST /admin/accounts/{account}/grants": GiveGrant,
    "POST /admin/accounts/{account}/corrections": Correct,
    "PATCH /admin/accounts/{account}/autopay": ChangeAutopay,
    "POST /admin/accounts/{account}/autopay/fail": FailPayment,
    "POST /admin/accounts/{account}/funds": AddFunds,
    "POST /admin/accounts/{account}/payments": TellPayment,
    "POST /admin/accounts/{account}/jobs/{kind}/{job}/settle": SettleJob,
}


def sections() -> dict[str, str]:
    """The text under each heading of the page."""
    parts = re.split(r"^#{2,3} (.*)$", PAGE.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_route_is_documented() -> None:
    """Each route has its section, and each section its route."""
    written = {heading.strip("`") for heading in sections() if heading.startswith("`")}
    assert written == {f"{method} {path}" for method, path, _, _ in ROUTES}


@pytest.mark.parametrize(("route", "model"), list(BODIES.items()), ids=list(BODIES))
def test_every_field_is_documented(route: str, model: type[Body]) -> None:
    """The table of a route names the fields of its body, all of them and no others."""
    rows = re.findall(r"^\| `(\w+)` \|", sections()[f"`{route}`"], re.MULTILINE)
    assert rows == list(model.model_fields)


def test_every_route_with_a_new_thing_says_201() -> None:
    """The status of success is told where it is not 200."""
    for method, path, status, _ in ROUTES:
        assert ("201." in sections()[f"`{method} {path}`"]) == (status == 201)


def test_every_problem_is_documented() -> None:
    """The table of problems is the one in the code."""
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", sections()["Problems"], re.MULTILINE)
    assert rows == [(code, str(kind.status)) for code, kind in PROBLEMS.items()]
