"""Alerts: what a debit finds is told to every target, signed, in words, at least once, and to nobody else."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from gateway.core.alerts import ALERT, notice_of
from gateway.core.money import NANOS_PER_USD
from gateway.edge.operations.alerts import TESTS_PER_HOUR_MAX
from gateway.ports import Dead, Delivered, Delivery, Retry
from gateway.settings.runtime import Smtp
from gateway.workers.mail import MailCarrier, write_mail
from tests.certificates import Certificates
from tests.fakes.mail import MailServer
from tests.harness import ADMIN_TOKEN, Running, running
from tests.ledger.ledgers import bill
from tests.pipeline.helpers import finished, submitted, until
from tests.pipeline.hooks import Hooks, Told

LOW = {"kind": "balance_below", "amount": "25"}


async def admin(gw: Running, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Status and data of the admin API about the account `a`."""
    url, headers = f"{gw.ops_url}/admin/accounts/a/{path}", {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    async with gw.http.request(method, url, json=body, headers=headers) as response:
        return response.status, await response.json(content_type=None)


async def spend(gw: Running, dollars: int, call: str) -> None:
    """A charge of the account `a`."""
    await gw.ledger.settle(bill(call, dollars * NANOS_PER_USD, account="a", key_id="key-a"))


def verified(told: Told, secret: str) -> Any:
    """What a webhook says, by the official library."""
    return Webhook(secret).verify(told.body, told.headers)


async def test_an_alert_on_all_its_ways(tmp_path: Path, empty_redis: str) -> None:
    """A debit crosses: the webhook is signed, the Slack-compatible hook gets a text, the mail is written; a target that
    fails at first is told again, and no other one twice; a test tells all; what was dropped is told to nobody."""
    async with Hooks() as hooks, MailServer() as mails:

        def config(data: dict[str, Any]) -> None:
            data["outward"] = {"allow": ["127.0.0.1"]}
            smtp = {"host": "127.0.0.1", "port": mails.port, "security": "none", "sender": "alerts@gw.example"}
            data["alerts"] = {"smtp": smtp}

        async with running(tmp_path, empty_redis, changes={"gateway.yaml": config}) as gw:
            await gw.open_account("a", credit="50")
            targets = [
                {"type": "webhook", "url": hooks.url("/signed?token=t0ken")},
                {"type": "slack", "url": hooks.url("/slack/T000/secret")},
                {"type": "email", "address": "ops@a.example"},
            ]
            status, made = await admin(gw, "PUT", "alerts/low", {**LOW, "to": targets})
            assert status == 200, made
            secret = made["to"][0].pop("secret")
            hooks.answers["/slack/T000/secret"] = [503]
            await spend(gw, 26, "call-1")

            (told,) = await hooks.hears("/signed")
            said = verified(told, secret)
            assert said["type"] == "alert.balance_below"
            assert said["data"] == {
                "account": "a", "alert": "low", "kind": "balance_below", "threshold": "25.000000000", "subject": None,
                "value": "24.000000000", "balance": "24.000000000", "currency": "USD",
                "text": "Account a: the balance is below $25.00. Its balance is $24.00.",
            }  # fmt: skip
            assert told.headers["webhook-id"].startswith("alert:low:1:low:")
            with pytest.raises(WebhookVerificationError):
                verified(Told(target="", headers=told.headers, body=told.body.replace(b"24.0", b"99.0")), secret)

            async def mailed() -> bool:
                return len(mails.mails) == 1

            assert await until(mailed)
            ((recipient, mail),) = mails.mails
            assert (recipient, mail["Subject"]) == ("ops@a.example", "Account a: the balance is below $25.00")
            assert mail["From"] == "Gateway <alerts@gw.example>" and "balance is $24.00" in mail.get_content()

            (waits,) = (await admin(gw, "GET", "deliveries"))[1]["items"]
            assert (waits["channel"], waits["why"], waits["attempts"]) == ("alert_slack", "answered 503", 1)
            shown = (await admin(gw, "GET", f"deliveries/{waits['id']}"))[1]
            listed = (await admin(gw, "GET", "alerts"))[1]
            for text in (orjson.dumps(shown).decode(), orjson.dumps(listed).decode(), orjson.dumps(made).decode()):
                assert "secret" not in text and "t0ken" not in text and "T000" not in text
            assert listed["items"] == [{**made, "told": ["below"]}]
            await gw.ledger.put_off(account="a", delivery_id=waits["id"], seconds=0, attempted=False)
            texts = await hooks.hears("/slack/T000/secret", 2)
            assert {orjson.loads(text.body)["text"] for text in texts} == {said["data"]["text"]}
            assert len(await hooks.hears("/signed")) == len(mails.mails) == 1

            status, again = await admin(gw, "PUT", "alerts/low", {**LOW, "to": targets[:1]})
            assert status == 200 and "secret" not in again["to"][0] and again["told"] == ["below"]
            status, _ = await admin(gw, "POST", "alerts/low/test")
            assert (status, (await hooks.hears("/signed", 2))[1].body.count(b"alert.test")) == (200, 1)
            verified(hooks.told["/signed"][1], secret)
            assert len(mails.mails) == 1
            rotated = (await admin(gw, "PUT", "alerts/low", {**LOW, "to": [{**targets[0], "rotate": True}]}))[1]
            assert rotated["to"][0]["secret"] != secret
            await admin(gw, "POST", "alerts/low/test")
            verified((await hooks.hears("/signed", 3))[2], rotated["to"][0]["secret"])
            for _ in range(TESTS_PER_HOUR_MAX - 2):
                assert (await admin(gw, "POST", "alerts/low/test"))[0] == 200
            assert (await admin(gw, "POST", "alerts/low/test"))[0] == 429

            await hooks.hears("/signed", 1 + TESTS_PER_HOUR_MAX)
            await gw.ledger.post(
                account="a", delivery_id="alert:x", channel=ALERT, payload={"kind": "balance_below", "watch": "low"},
                seconds=1.0,
            )  # fmt: skip
            assert (await admin(gw, "DELETE", "alerts/low"))[0] == 200
            assert (await admin(gw, "GET", "alerts"))[1]["items"] == []
            assert (
                (await admin(gw, "POST", "alerts/low/test"))[0] == (await admin(gw, "DELETE", "alerts/low"))[0] == 404
            )
            await spend(gw, 1, "call-2")
            await hooks.hears("/signed", 1 + TESTS_PER_HOUR_MAX)


async def test_what_may_not_be_told(gw: Running) -> None:
    """Inside addresses, plain HTTP, mails without a server, wrong figures: each refused with its place; no name of
    autopay's."""
    await gw.open_account("a", credit="50")
    wrong: list[tuple[dict[str, Any], str]] = [
        ({**LOW, "to": [{"type": "webhook", "url": "https://127.0.0.1/x"}]}, "/to/0"),
        ({**LOW, "to": [{"type": "slack", "url": "http://hooks.example.com/x"}]}, "/to/0"),
        ({**LOW, "to": [{"type": "email", "address": "a@b.example"}]}, "/to/0"),
        ({**LOW, "to": [{"type": "email", "address": "a@b.example\nBcc: c@d.example"}]}, "/to/0/email/address"),
        ({**LOW, "to": []}, "/to"),
        ({**LOW, "to": [{"type": "pigeon", "name": "p"}]}, "/to/0"),
        ({"kind": "balance_below", "to": [{"type": "slack", "url": "https://a.example"}]}, ""),
        ({"kind": "key_budget", "amount": "5", "to": [{"type": "slack", "url": "https://a.example"}]}, ""),
        ({"kind": "job_anomaly", "days": 5, "to": [{"type": "slack", "url": "https://a.example"}]}, ""),
        ({**LOW, "percent": 5, "to": [{"type": "slack", "url": "https://a.example"}]}, ""),
    ]
    for body, pointer in wrong:
        status, problem = await admin(gw, "PUT", "alerts/low", body)
        assert (status, problem["errors"][0]["pointer"]) == (422, pointer), problem
    assert (await admin(gw, "GET", "alerts"))[1]["items"] == []
    for path in ("alerts/No", "alerts/a:b"):
        assert (await admin(gw, "PUT", path, {**LOW, "to": [{"type": "slack", "url": "https://a.example"}]}))[0] == 404


async def test_an_event_is_told_to_the_alerts_of_its_kind(tmp_path: Path, empty_redis: str) -> None:
    """Jobs that the service lost are one alert, to whoever asked for such, and to nobody else; one whose usage was not
    reported is another, also where its client saw it first."""

    def config(data: dict[str, Any]) -> None:
        data["outward"] = {"allow": ["127.0.0.1"]}

    def impatient(data: dict[str, Any]) -> None:
        data["jobs"]["transcript"] |= {"look_first_seconds": 0.2, "look_seconds_max": 0.5, "gone_seconds": 0}

    changes = {"gateway.yaml": config, "config/products/speech-to-text.yaml": impatient}
    async with Hooks() as hooks, running(tmp_path, empty_redis, changes=changes) as gw:
        key = await gw.open_account("a", credit="50")
        await admin(
            gw, "PUT", "alerts/jobs", {"kind": "job_anomaly", "to": [{"type": "slack", "url": hooks.url("/j")}]}
        )
        await admin(gw, "PUT", "alerts/low", {**LOW, "to": [{"type": "slack", "url": hooks.url("/low")}]})
        body = {"audio_url": "https://example.com/a.wav?duration=60"}
        for _ in range(2):
            made = await gw.call("POST", "/v2/transcript", key, json=body, headers={"X-Sandbox-Job-Seconds": "60"})
            assert made.status == 200, made.body
        gw.sandbox.state.jobs.clear()
        (told,) = await hooks.hears("/j", seconds=15)
        assert "The service does not know a job any more" in orjson.loads(told.body)["text"]
        path = await submitted(gw, key, 60, knobs={"job_seconds": 0.05, "usage": "missing"})
        await gw.knobs(usage="missing")
        await finished(gw, key, path)
        _, told = await hooks.hears("/j", 2)
        assert "without a report of its usage" in orjson.loads(told.body)["text"]
        assert not hooks.told["/low"]


DELIVERY = Delivery(account="a", id="alert:low:1:low:t", channel="alert_email", payload={}, created_ms=0, due_ms=0)
NOTICE = notice_of("a", "low", {"kind": "test", "at": 0})


def smtp(port: int, **more: Any) -> Smtp:
    """A config's mail server."""
    values: dict[str, Any] = {
        "host": "127.0.0.1", "port": port, "security": "none", "username": "", "password": "",
        "sender": "alerts@gw.example", "sender_name": 'Gate "way", Inc. <x@y.example>',
    }  # fmt: skip
    return Smtp(**values | more)


async def test_what_the_mail_server_answers(certificates: Certificates) -> None:
    """Taken: delivered, the same Message-ID each time. Refused for good: dead. For now, or away: again."""
    target = {"address": "ops@a.example"}
    async with MailServer() as server:
        carry = MailCarrier(smtp(server.port))
        for _ in range(2):
            assert await carry(DELIVERY, target, NOTICE) == Delivered()
        assert len({mail["Message-ID"] for _, mail in server.mails}) == 1
        assert [recipient for recipient, _ in server.mails] == ["ops@a.example"] * 2
        server.answers["ops@a.example"] = ["451 later", "550 no such user"]
        assert await carry(DELIVERY, target, NOTICE) == Retry(why="the mail server answered 451 to the address")
        assert await carry(DELIVERY, target, NOTICE) == Dead(why="the mail server answered 550 to the address")
    assert isinstance(await carry(DELIVERY, target, NOTICE), Retry), "it is away"
    async with MailServer(tls=certificates.server, username="u", password="p4ss") as server:
        carry = MailCarrier(smtp(server.port, security="starttls", username="u", password="p4ss"))
        answer = await carry(DELIVERY, target, NOTICE)
        assert isinstance(answer, Retry) and not server.mails, "nobody vouches for this certificate here"
        assert "p4ss" not in answer.why
        options = smtp(server.port, security="starttls", username="u", password="p4ss")
        assert await MailCarrier(options, tls=certificates.client)(DELIVERY, target, NOTICE) == Delivered()
        wrong = await MailCarrier(replace(options, password="wrong"), tls=certificates.client)(DELIVERY, target, NOTICE)
        assert wrong == Retry(why="the mail server answered 535"), "which ops can put right"


def test_a_mail_cannot_be_made_to_say_more() -> None:
    """Whatever is in the words, there is one header of each name, and one recipient."""
    with pytest.raises(ValueError, match=r"CR|LF|newline|linefeed|address"):
        write_mail(smtp(25), DELIVERY, "a@b.example\r\nBcc: c@d.example", NOTICE)
    crafted = notice_of("a\r\nBcc: c@d.example", "low", {"kind": "test", "at": 0})
    with pytest.raises(ValueError, match=r"CR|LF|newline|linefeed"):
        write_mail(smtp(25), DELIVERY, "a@b.example", crafted)
    raw = write_mail(smtp(25), DELIVERY, "a@b.example", NOTICE).as_bytes()
    assert raw.count(b"\r\nFrom: ") == raw.count(b"\r\nTo: ") == 1 and b"Bcc" not in raw
