"""The outbox as it is wired: which courier carries the deliveries of which channel.

Owns: the channels. Does not know: what is due (the ledger), how something is carried (couriers).
"""

from gateway.pipeline.callbacks import WEBHOOK
from gateway.ports import Clock, Courier, Ledger, Observer
from gateway.upstream.outward import Outward
from gateway.workers.outbox import Outbox
from gateway.workers.webhooks import WebhookCourier


def make_outbox(*, ledger: Ledger, outward: Outward, observer: Observer, clock: Clock) -> Outbox:
    """The outbox, with a courier for each channel."""
    couriers: dict[str, Courier] = {WEBHOOK: WebhookCourier(outward)}
    return Outbox(ledger=ledger, couriers=couriers, observer=observer, clock=clock)
