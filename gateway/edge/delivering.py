"""The outbox as it is wired: which courier carries the deliveries of which channel.

Owns: the channels. Does not know: what is due (the ledger), how something is carried (couriers).
"""

from typing import Final

from gateway.payments.cashier import AUTOPAY_CHANNEL
from gateway.pipeline.callbacks import WEBHOOK
from gateway.pipeline.unsettled import UNSETTLED, UnsettledCourier
from gateway.ports import Clock, Courier, Ledger, Observer
from gateway.settings.runtime import Runtime
from gateway.upstream.outward import Outward
from gateway.workers.alerts import alert_couriers
from gateway.workers.mail import MailCarrier
from gateway.workers.outbox import Outbox
from gateway.workers.webhooks import WebhookCourier

#: The shortest lease of a delivery: half of it is for an attempt, and a webhook may take ten seconds to answer.
_LEASE_SECONDS_MIN: Final = 30


def make_outbox(
    runtime: Runtime, *, ledger: Ledger, outward: Outward, autopay: Courier, observer: Observer, clock: Clock
) -> Outbox:
    """The outbox, with a courier for each channel."""
    mail = None if runtime.smtp is None else MailCarrier(runtime.smtp)
    alerts = alert_couriers(ledger=ledger, outward=outward, peppers=runtime.peppers, clock=clock, mail=mail)
    couriers: dict[str, Courier] = {WEBHOOK: WebhookCourier(outward), AUTOPAY_CHANNEL: autopay, **alerts}
    couriers[UNSETTLED] = UnsettledCourier(ledger=ledger, observer=observer)
    lease_seconds = max(runtime.limits.hold_lease_seconds, _LEASE_SECONDS_MIN)
    return Outbox(ledger=ledger, couriers=couriers, observer=observer, clock=clock, lease_seconds=lease_seconds)
