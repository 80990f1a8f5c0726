"""Temporary tokens: only we can make one, and it says nothing once its time is over."""

from dataclasses import replace

import pytest

from gateway.edge.tokens import read_token, write_token
from gateway.ports import Plan, TemporaryToken

TOKEN = TemporaryToken(
    id="one", account="acme", key_id="key-1", plan=Plan(tier="payg", rate_card="nonprofit"), product="streaming",
    expires=1_000, session_seconds_max=600, once=True,
)  # fmt: skip


def test_a_token_says_what_it_was_made_for() -> None:
    """Reading gives back all that was written, until it expires."""
    text = write_token("pepper", TOKEN)
    assert read_token("pepper", text, 999.9) == TOKEN
    assert read_token("pepper", text, 1_000.0) is None
    assert read_token(("newer", "pepper"), text, 999.9) == TOKEN
    bound = replace(TOKEN, region="eu")
    assert read_token("pepper", write_token("pepper", bound), 999.9) == bound


def test_a_token_of_another_pepper_is_nobodys() -> None:
    """Whoever has not our pepper cannot make one."""
    assert read_token("pepper", write_token("other", TOKEN), 0) is None


@pytest.mark.parametrize("account", ["acme2", "acm", ""])
def test_no_account_can_be_put_in_place_of_another(account: str) -> None:
    """The signature of one token does not fit another's content."""
    _, _, mac = write_token("pepper", TOKEN).partition(".")
    body, _, _ = write_token("pepper", replace(TOKEN, account=account)).partition(".")
    assert read_token("pepper", f"{body}.{mac}", 0) is None


@pytest.mark.parametrize(
    "text", ["", "gwt_", "gwt_.", "gwt_é.é", "gwt_AAAA", "gwt_AAAA.AAAA", "gw_AAAA.AAAA", "gwt_A.A", "gwt_=.="]
)
def test_what_is_no_token_is_nobodys(text: str) -> None:
    """Whatever a client sends, it is judged and not raised about."""
    assert read_token("pepper", text, 0) is None
