"""Calls the webhooks of clients, whose jobs are over.

Owns: what a webhook's answer means, and how often it is called: as the service itself would, ten times at most.
Does not know: whose job it is, whom `Outward` may reach.
"""

from collections.abc import Container, Mapping, Sequence
from typing import Any, Final

from gateway.core.errors import OutwardFailed, OutwardRefused
from gateway.ports import Dead, Delivered, Delivery, Retry
from gateway.upstream.outward import Outward

#: Nine pauses are ten attempts, the last one about two hours after the first.
_PAUSES: Final = (5.0, 10.0, 20.0, 60.0, 120.0, 300.0, 900.0, 1800.0, 3600.0)


async def call_hook(
    outward: Outward, url: str, body: bytes, headers: Mapping[str, str], *, refusals: Container[int]
) -> Delivered | Retry | Dead:
    """Call a hook. 2xx: delivered. One of the `refusals`, or an address that is not called: dead. Else: again."""
    try:
        reply = await outward.post(url, body, headers)
    except OutwardRefused as refused:
        return Dead(why=str(refused))
    except OutwardFailed as failed:
        return Retry(why=str(failed))
    if 200 <= reply.status < 300:
        return Delivered()
    why = f"answered {reply.status}"
    return Dead(why=why) if reply.status in refusals else Retry(why=why)


class WebhookCourier:
    """Delivers what a client is told of its job: the body as it is, and the header that the client asked for."""

    pauses: Sequence[float] = _PAUSES

    def __init__(self, outward: Outward) -> None:
        self._outward = outward

    async def deliver(self, delivery: Delivery) -> Delivered | Retry | Dead:
        """2xx in time: delivered. Any 4xx, or an address that is not called: dead. Anything else: again."""
        told = delivery.payload
        return await call_hook(
            self._outward, told["url"], told["body"].encode(), _headers(told), refusals=range(400, 500)
        )


def _headers(told: Mapping[str, Any]) -> dict[str, str]:
    """The client's header wins over ours."""
    header = {told["name"]: told["value"]} if "name" in told else {}
    ours = {} if "content-type" in map(str.lower, header) else {"Content-Type": told["type"]}
    return {**ours, **header}
