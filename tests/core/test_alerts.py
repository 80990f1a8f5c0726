"""What alerts say."""

import pytest

from gateway.core.alerts import UNITS, anomaly, is_mail_address, notice_of

CROSSING = {
    "watch": "low", "amount": "25000000000", "subject": "", "value": "24990000000", "balance": "-1234000000000",
    "at": 1_795_435_200_000,
}  # fmt: skip


def test_a_crossing_in_words_and_data() -> None:
    """Cents for people, all nine decimals for programs."""
    notice = notice_of("acme", "low", {"kind": "balance_below", **CROSSING})
    assert notice.title == "Account acme: the balance is below $25.00"
    assert notice.text == "Account acme: the balance is below $25.00. Its balance is -$1,234.00."
    assert notice.at == "2026-11-23T12:00:00.000Z"
    assert notice.data == {
        "account": "acme", "alert": "low", "kind": "balance_below", "threshold": "25.000000000", "subject": None,
        "value": "24.990000000", "balance": "-1234.000000000", "currency": "USD",
    }  # fmt: skip


@pytest.mark.parametrize("kind", [*UNITS, "test", "of another version", ""])
def test_every_kind_has_words(kind: str) -> None:
    """One line as a title, no figure that is missing, no matter what the payload lacks."""
    full = {
        "kind": kind,
        **CROSSING,
        "amount": "7",
        "subject": "s",
        "what": "gone",
        "product": "p",
        "call_id": "c",
        "why": "declined",
    }
    for payload in (full, {"kind": kind}):
        notice = notice_of("acme", "a", payload)
        assert notice.title.startswith("Account acme: ") and "\n" not in notice.title
        assert notice.text.startswith(notice.title)
    if UNITS.get(kind):
        told = notice_of("acme", "a", full).text
        assert "None" not in told and "unknown" not in told


def test_jobs_that_fail_alike_are_one_alert_in_an_hour() -> None:
    """A thousand jobs that a wrong credential made unknown do not flood; another kind, or hour, is told."""
    ids = {
        anomaly("job_anomaly", what, product="p", call_id=f"c{at}", at_ms=at)[0]
        for what, at in (("gone", 7_200_000), ("gone", 10_799_999), ("gone", 10_800_000), ("expired", 7_200_000))
    }
    assert ids == {"alert:job_anomaly:gone:2", "alert:job_anomaly:gone:3", "alert:job_anomaly:expired:2"}


def test_addresses_of_mails() -> None:
    """Plain ones, and nothing that could end a header or name two of them."""
    assert all(map(is_mail_address, ("a@b.example", "first.last+tag@mail.example.co.uk")))
    for wrong in (
        "", "a", "a@b", "a b@c.example", "a@b.example\r\nBcc: x@y.example", "a@b.example, c@d.example", "<a@b.example>",
        ".a@b.example", "a..b@c.example", "a@@b.example", "ä@b.example", "a@b.example\n", "a" * 65 + "@b.example",
        '"a"@b.example',
    ):  # fmt: skip
        assert not is_mail_address(wrong), wrong
