"""The admin API's reference says everything that the API has, and nothing else."""

import re
from pathlib import Path

import pytest

from gateway.edge.api.admin_problems import PROBLEMS
from gateway.edge.api.admin_routes import BASE, ROUTES
from gateway.edge.operations.bodies import Body

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "admin-api.md"
BODIES: dict[str, type[Body]] = {
    f"{route.method} {BASE}{route.path}": route.body for route in ROUTES if route.body is not None
}


def sections() -> dict[str, str]:
    """The text under each heading of the page."""
    parts = re.split(r"^#{2,3} (.*)$", PAGE.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_route_is_documented() -> None:
    """Each route has its section, and each section its route."""
    written = {heading.strip("`") for heading in sections() if heading.startswith("`")}
    assert written == {f"{route.method} {BASE}{route.path}" for route in ROUTES}


@pytest.mark.parametrize(("route", "model"), list(BODIES.items()), ids=list(BODIES))
def test_every_field_is_documented(route: str, model: type[Body]) -> None:
    """The table of a route names the fields of its body, all of them and no others."""
    rows = re.findall(r"^\| `(\w+)` \|", sections()[f"`{route}`"], re.MULTILINE)
    assert rows == list(model.model_fields)


def test_every_route_says_its_scope_and_whether_it_makes_something() -> None:
    """Each section begins with the scope of its route; the status of success is told where it is not 200."""
    for route in ROUTES:
        text = sections()[f"`{route.method} {BASE}{route.path}`"]
        assert text.strip().startswith(f"Scope `{route.scope}`.")
        assert ("201." in text) == (route.status == 201)


def test_every_problem_is_documented() -> None:
    """The table of problems is the one in the code."""
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", sections()["Problems"], re.MULTILINE)
    assert rows == [(code, str(kind.status)) for code, kind in PROBLEMS.items()]
