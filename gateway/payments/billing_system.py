"""The company's own billing system as a provider of payments: a signed request, answered now or by the admin API.

Owns: the form of the request, what its answer means.
Does not know: the ledger, or how payers are charged. The address is ops' own and may be private, so it is called as it
is (what customers name is called by `upstream.outward`).
"""

import time
from collections.abc import Mapping, Sequence
from typing import Final

import aiohttp
import orjson

from gateway.core.money import format_usd
from gateway.core.signatures import signed_headers
from gateway.ports import (
    Checkout,
    CheckoutPage,
    Payment,
    PaymentEvent,
    PaymentRefused,
    PaymentRequest,
    PaymentUnknown,
    WebhookInvalid,
)
from gateway.settings.payments import BillingSystem

NAME: Final = "webhook"
_SECONDS_MAX: Final = 10.0
_ANSWER_BYTES_MAX: Final = 16_384


class BillingSystemProvider:
    """`ports.PaymentProvider` by signed requests: `{"paid": true, "payment": "..."}` is what it waits for."""

    name = NAME

    def __init__(self, system: BillingSystem) -> None:
        self._system = system
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"<BillingSystemProvider {self._system.url}>"

    async def close(self) -> None:
        """See `PaymentProvider`."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def create_payment(self, request: PaymentRequest) -> Payment:
        """See `PaymentProvider`. The attempt is the message's id: asked again, the system has to know it."""
        body = orjson.dumps(
            {
                "type": "payment.requested",
                "data": {
                    "account": request.account,
                    "attempt": request.attempt,
                    "amount": format_usd(request.amount),
                    "currency": "USD",
                    "customer": request.customer,
                },
            }
        )
        headers = signed_headers([self._system.key], request.attempt, int(time.time()), body)
        try:
            async with self._open().post(
                self._system.url, data=body, headers={**headers, "Content-Type": "application/json"}
            ) as reply:
                answer, status = await _whole(reply.content), reply.status
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise PaymentUnknown(f"billing system: {type(error).__name__}") from None
        return _payment(request, status, answer)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                timeout=aiohttp.ClientTimeout(total=_SECONDS_MAX),
            )
        return self._session

    async def checkout(self, checkout: Checkout) -> CheckoutPage:  # noqa: ARG002 - the port's
        """See `PaymentProvider`."""
        raise PaymentRefused("credit is added by your provider's own billing")

    async def read_webhook(self, headers: Mapping[str, str], body: bytes) -> Sequence[PaymentEvent]:  # noqa: ARG002
        """See `PaymentProvider`. It tells of payments by the admin API, which asks for a token."""
        raise WebhookInvalid("payments are told by the admin API")


async def _whole(content: aiohttp.StreamReader) -> bytes:
    """An answer to its end, in however many pieces it comes; of one that is too long, no more than shows that."""
    answer = b""
    async for chunk in content.iter_chunked(_ANSWER_BYTES_MAX):
        answer += chunk
        if len(answer) > _ANSWER_BYTES_MAX:
            break
    return answer


def _payment(request: PaymentRequest, status: int, answer: bytes) -> Payment:
    """What the system said. Whatever is not said in so many words leaves the payment open."""
    try:
        said = orjson.loads(answer) if len(answer) <= _ANSWER_BYTES_MAX else None
    except ValueError:
        said = None
    if not 200 <= status < 300 or not isinstance(said, dict):
        raise PaymentUnknown(f"billing system: answered {status}")
    paid, payment, why = said.get("paid"), said.get("payment"), said.get("reason")
    if paid is True and isinstance(payment, str) and payment:
        return Payment(id=payment, status="paid", amount=request.amount)
    if paid is False:
        word = why if isinstance(why, str) and why.isprintable() and 0 < len(why) <= 64 else "declined"
        return Payment(id="", status="declined", amount=request.amount, why=word)
    if paid is None:
        return Payment(id="", status="pending", amount=request.amount)
    raise PaymentUnknown("billing system: answered without saying whether it is paid")
