"""A gateway with its plug-in modes on, and a product that is not proxied."""

from collections.abc import Mapping
from typing import Any

import yaml

from gateway.edge.api.admin_tokens import token_digest
from tests.harness import ROOT, Change, Running

TOKEN = "gwa_token-of-a-service-with-the-scope-credit"
READER = "gwa_token-that-only-reads-the-admin-api"

#: Sold over the credit API and forward-auth alone.
RENDERING: dict[str, Any] = yaml.safe_load((ROOT / "examples" / "rendering.yaml").read_text())


def plugged(*, on_unsettled: str = "release", **settings: Any) -> Mapping[str, Change]:
    """Changes of the config: the modes on, a token for services, the product and its prices."""

    def main(data: dict[str, Any]) -> None:
        data["plug_in"] = {"credit_api": True, "forward_auth": True, **settings}
        data["admin_tokens"] = [
            {"name": "service", "scopes": ["credit"], "sha256": token_digest(TOKEN)},
            {"name": "reader", "scopes": ["read"], "sha256": token_digest(READER)},
        ]

    def product(data: dict[str, Any]) -> None:
        data.update({**RENDERING, "on_unsettled": on_unsettled})

    def tiers(data: dict[str, Any]) -> None:
        data["tiers"]["payg"]["products"]["rendering"] = {"concurrency": 3}

    def prices(data: dict[str, Any]) -> None:
        data["price_lists"][0]["prices"] |= {
            "rendering.megapixel": {"per_unit": "0.10"},
            "rendering.layer": {"per_unit": "0.02"},
            "rendering.rush": {"per_call": "0.03"},
        }

    return {
        "gateway.yaml": main,
        "config/products/rendering.yaml": product,
        "config/tiers.yaml": tiers,
        "config/prices.yaml": prices,
    }


class Service:
    """A service of ours that serves calls itself, and holds credit for them."""

    def __init__(self, gw: Running, token: str = TOKEN) -> None:
        self.gw = gw
        self.token = token

    async def ask(self, path: str, body: Any = None, *, name: str = "", method: str = "POST") -> tuple[int, Any]:
        """One request to the credit API: status and JSON."""
        headers = {"Authorization": f"Bearer {self.token}", **({"Idempotency-Key": name} if name else {})}
        kwargs: dict[str, Any] = {} if body is None else {"json": body}
        async with self.gw.http.request(method, f"{self.gw.url}/credit/v1{path}", headers=headers, **kwargs) as got:
            return got.status, await got.json(content_type=None)

    async def hold(self, name: str = "", **body: Any) -> dict[str, Any]:
        """A hold, which is granted."""
        status, data = await self.ask("/holds", body, name=name)
        assert status == 201, data
        found: dict[str, Any] = data
        return found
