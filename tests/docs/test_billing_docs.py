"""The billing API's reference says everything that the API has, and nothing else."""

import re
from pathlib import Path

from gateway.edge.api.admin_problems import CUSTOMERS
from gateway.edge.api.billing_routes import BASE, ROUTES

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "billing-api.md"


def sections() -> dict[str, str]:
    """The text under each heading of the page."""
    parts = re.split(r"^#{2,3} (.*)$", PAGE.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_route_is_documented() -> None:
    """Each route has its section, with the fields of its body and the status of what it makes; no other has."""
    written = {heading.strip("`"): text for heading, text in sections().items() if heading.startswith("`")}
    assert written.keys() == {f"{route.method} {BASE}{route.path}" for route in ROUTES}
    for route in ROUTES:
        text = written[f"{route.method} {BASE}{route.path}"]
        rows = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
        assert rows == ([] if route.body is None else list(route.body.model_fields))
        assert ("201." in text) == (route.status == 201)
        for parameter in route.query:
            assert parameter.name in ("after", "limit") or f"`{parameter.name}" in text


def test_every_problem_is_documented() -> None:
    """The table has what customers alone are told."""
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", sections()["Problems"], re.MULTILINE)
    assert rows == [(code, str(kind.status)) for code, kind in CUSTOMERS.items()]
