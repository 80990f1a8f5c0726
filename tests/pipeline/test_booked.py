"""What a booking costs, by what is told of it: plain values, at the prices of the shipped config."""

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gateway.core.money import BALANCE_MAX, Nanos, parse_usd
from gateway.core.usage import Quantity
from gateway.pipeline.bookable import Bookable, bookable, only_paid
from gateway.pipeline.booked import Booking, Used, charge_of, knows_model, price_table
from gateway.settings.load import load
from gateway.settings.runtime import Runtime
from tests.edge.plugged import plugged
from tests.harness import write_config


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    """The shipped config, with a product that is not proxied."""
    directory: Path = tmp_path_factory.mktemp("config")
    return load(write_config(directory, upstream_url="http://127.0.0.1:1", redis_url="", changes=plugged()), {})


def booking(runtime: Runtime, route: str, **facts: Any) -> tuple[Booking, Bookable]:
    """A hold of this route, at the prices of now."""
    found = bookable(runtime)[route]
    table = runtime.prices.current(2e9, "standard")
    made = Booking(
        hold_id="h", account="a", key_id="k", product=found.by_request.product.name, route=route,
        price_version=table.version, rate_card="standard", **facts,
    )  # fmt: skip
    return made, found


def cost(runtime: Runtime, held: tuple[Booking, Bookable | None], **used: Any) -> Nanos | str:
    """What it costs, or why that cannot be said."""
    table = price_table(runtime.prices, held[0], 2e9, "standard")
    charge = charge_of(held[0], Used(**used), held[1], table)
    return charge if isinstance(charge, str) else charge.amount


def test_absurd_quantities_are_neither_free_nor_a_fortune(runtime: Runtime) -> None:
    """No channels are one, and more than any audio has are none that were told, by whoever tells them."""
    held = booking(runtime, "transcript.create")
    minute = parse_usd("0.0035")
    for told, expected in ((0, minute), (1, minute), (2, 2 * minute), (33, "not reported: audio_channels")):
        assert cost(runtime, held, usage={"audio_seconds": 60, "audio_channels": told}) == expected
        assert cost(runtime, held, usage={"audio_seconds": 60}, reply={"audio_channels": told}) == expected


def test_quantities_count_in_their_order(runtime: Runtime) -> None:
    """What was told comes before what was known before, that before the reply, that before the default."""
    held = booking(runtime, "rendering.create")
    usage: Mapping[str, Quantity] = {"megapixels": Decimal("0.5"), "layers": 3}
    assert cost(runtime, held, usage=usage) == parse_usd("0.11")
    assert cost(runtime, held, usage={"megapixels": 1}) == parse_usd("0.10")  # layers are none, where nothing is told
    assert cost(runtime, held, reply={"megapixels": 1}) == "not reported: megapixels"
    known = booking(runtime, "rendering.create", known={"megapixels": 2}, facts={"rush": True})
    assert cost(runtime, known) == parse_usd("0.23")
    assert cost(runtime, known, usage={"megapixels": 1}) == parse_usd("0.13")
    chat = booking(runtime, "chat.completions", facts={"model": "gpt-5.2"})
    reply = {"usage": {"prompt_tokens": 1000, "completion_tokens": 100}}
    by_reply = cost(runtime, chat, reply=reply)
    assert by_reply == cost(runtime, chat, reply=reply, usage={"input_tokens": 1000}) != 0
    assert cost(runtime, chat, reply={"model": "gpt-5.2"}) == "not reported: input_tokens, output_tokens"


def test_what_cannot_be_priced_is_said_and_never_free(runtime: Runtime) -> None:
    """A route that is gone, a model that nobody knows, more than an account may hold: an amount settles it."""
    gone = (booking(runtime, "rendering.create")[0], None)
    assert "no paid route" in str(cost(runtime, gone, usage={"megapixels": 1}))
    assert cost(runtime, gone, amount=Nanos(7)) == 7
    assert cost(runtime, booking(runtime, "rendering.create"), usage={"megapixels": 10**15}) == (
        "it is more than an account may hold"
    )
    assert cost(runtime, booking(runtime, "rendering.create"), amount=BALANCE_MAX) == BALANCE_MAX
    chat = booking(runtime, "chat.completions")
    reply = {"model": "from-nowhere", "usage": {"prompt_tokens": 10, "completion_tokens": 10}}
    assert not knows_model(chat[0], Used(reply=reply), chat[1])
    assert cost(runtime, chat, reply=reply) != 0  # as the model that is unknown, never free


def test_the_prices_are_those_of_the_hold_as_long_as_there_are_such(runtime: Runtime) -> None:
    """A list that the config has no more, or a rate card, is replaced by that of now; one that it has is kept."""
    held, _ = booking(runtime, "rendering.create")
    assert price_table(runtime.prices, held, 2e9, "standard").version == held.price_version
    for version, card, now in (("gone", "standard", "standard"), ("gone", "gone", "standard")):
        lost = Booking(
            hold_id="h", account="a", key_id="k", product="p", route="r", price_version=version, rate_card=card
        )
        assert price_table(runtime.prices, lost, 2e9, "standard").rate_card == now


def test_which_routes_can_be_booked(runtime: Runtime) -> None:
    """All but sockets and what mints tokens; a product is named alone where one of its routes costs something."""
    book = bookable(runtime)
    assert book.keys() == {route.name for route in runtime.routes if route.session is None and route.mints is None}
    assert {name for name, each in book.items() if each.metering is not None} >= {
        "chat.completions",
        "transcript.create",
    }
    assert only_paid(book)["rendering"] == "rendering.create"
    for each in book.values():
        assert not each.by_request.requires and each.by_request.job is None and each.by_request.listing is None
        assert each.by_request.product.without_ledger is None
