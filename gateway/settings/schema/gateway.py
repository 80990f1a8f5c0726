"""`gateway.yaml`: listeners, the ledger's server, secrets, upstreams, limits, and which other files are read."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, model_validator

from gateway.core.addresses import Allowed
from gateway.core.redis_url import read_redis_url
from gateway.settings.origins import read_text
from gateway.settings.runtime import AdminScope, ReloadOnChange
from gateway.settings.schema.alerts import AlertsSettings
from gateway.settings.schema.base import (
    Flag,
    HeaderName,
    Name,
    Pem,
    Seconds,
    Secret,
    Settings,
    Whole,
    Word,
    base_url,
    key,
    plain_text,
)
from gateway.settings.schema.errors import ErrorsSettings
from gateway.settings.schema.exports import CloudEventsSettings, ExportSettings, PostgresSettings
from gateway.settings.schema.payments import BillingSystemSettings, PaymentsSettings, StripeSettings
from gateway.settings.schema.tracing import OtlpSettings, TracingSettings
from gateway.settings.schema.upstream import EndpointSettings, UpstreamSettings
from gateway.settings.tls import Tls, server_context

MEBIBYTE = 1024 * 1024


_REDIS_SCHEMES = frozenset(
    {"redis", "rediss", "unix", "redis+cluster", "rediss+cluster", "redis+sentinel", "rediss+sentinel"}
)


def _public_url(text: str) -> str:
    return base_url(text) if text else text


def _host(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9.-]{1,253}", text):
        raise ValueError("must be a host, without scheme and port")
    return text.lower()


def _redis_url(text: str) -> str:
    if not text:
        return text
    scheme = urlsplit(text).scheme
    if scheme not in _REDIS_SCHEMES:
        raise ValueError("must be a Redis URL, like redis://127.0.0.1:6379/0")
    if "+" not in scheme:
        for path in read_redis_url(text).files.values():
            read_text(Path(path), "the file")  # it is read again for each connection: a mistake is told before
    return text


def _pepper(text: str) -> str:
    if not text:
        raise ValueError("must not be empty: without it, who reads the ledger can try keys against their digests")
    return text


def _sha256(text: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise ValueError("must be 64 hexadecimal digits, as `gateway admin-tokens create` prints them")
    return text


def _pattern(text: str) -> str:
    if not text.strip() or "**" in text:
        raise ValueError("must be a file or a pattern of files, like config/products/*.yaml")
    return text


class ListenerSettings(Settings):
    """Where the gateway listens."""

    host: Word = key("Address to listen on; 0.0.0.0 is every one", default="127.0.0.1")
    port: Whole = key("Port to listen on; 0 takes a free one", default=8080, ge=0, le=65535)


class TlsSettings(Settings):
    """HTTPS and secure WebSockets. Without it, a balancer in front of the gateway has to speak them."""

    certificate: Pem = key("File with the certificate, and then those that vouch for it, in PEM; relative to this file")
    private_key: Pem = key("File with its private key, in PEM, without a password; relative to this file", alias="key")
    client_ca: Pem | None = key(
        "File with the authorities of clients, in PEM; who has no certificate of one of them is not let in",
        default=None,
        shown="everybody is let in",
    )

    @model_validator(mode="after")
    def _fit(self) -> Self:
        server_context(self.compiled())
        return self

    def compiled(self) -> Tls:
        """As listeners take it."""
        return Tls(certificate=self.certificate, private_key=self.private_key, client_ca=self.client_ca)


class CustomersListenerSettings(ListenerSettings):
    """Where customers are listened to."""

    tls: TlsSettings | None = key("Speak TLS", default=None, shown="off")
    public_url: Annotated[Word, AfterValidator(_public_url)] = key(
        "URL at which the services behind the gateway reach this listener; empty: they call clients back themselves",
        default="",
        shown="none",
    )
    regions: dict[Annotated[Word, AfterValidator(_host)], Name] = key(
        "Hosts that clients call, each with the region that it stands for", default=dict, shown="none"
    )


class OpsListenerSettings(ListenerSettings):
    """Where operators are listened to."""

    port: Whole = key("Port to listen on; 0 takes a free one", default=8081, ge=0, le=65535)
    tls: TlsSettings | None = key("Speak TLS", default=None, shown="off")


class RedisYaml(Settings):
    """The ledger's server."""

    url: Annotated[Secret, AfterValidator(_redis_url)] = key(
        "URL of the server; empty: an embedded server. May be `file:/path`", default="", shown="embedded"
    )
    directory: Word = key("Where the embedded server keeps its data", default="data/redis")
    prefix: Name = key("First part of every key in Redis", default="gw")
    connect_seconds_max: Seconds = key("Longest wait for a connection", default=1.0, unit="seconds", gt=0, le=60)
    command_seconds_max: Seconds = key("Longest wait for an answer", default=2.0, unit="seconds", gt=0, le=60)
    operation_seconds: Whole = key(
        "How long the answer of an operation is kept for its replays",
        default=604800,
        unit="seconds",
        ge=3600,
        le=31536000,
    )


class LogSettings(Settings):
    """What is logged."""

    level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(plain_text)] = key(
        "Least severe level that is logged: `debug`, `info`, `warning` or `error`", default="info"
    )


class LimitsSettings(Settings):
    """Limits of one worker."""

    hold_lease_seconds: Whole = key(
        "A call's hold ends by itself so long after its process died", default=60, unit="seconds", ge=3, le=3600
    )
    connections_max: Whole = key(
        "Open connections of customers", default=10_000, unit="connections", ge=1, le=1_000_000
    )
    connections_per_address_max: Whole = key(
        "Open connections of one address (IPv6: of a /64); 0: no limit. With `trust_forwarded_for` there is none",
        default=2500,
        unit="connections",
        ge=0,
        le=1_000_000,
    )
    calls_max: Whole = key("Calls under way; more are refused", default=5_000, unit="calls", ge=1, le=1_000_000)
    calls_per_account_max: Whole = key(
        "Calls of one account under way, its sessions included; more are refused; 0: no limit",
        default=2500,
        unit="calls",
        ge=0,
        le=1_000_000,
    )
    handshakes_max: Whole = key(
        "Sessions whose upstream is not joined yet; more are refused", default=500, unit="calls", ge=1, le=1_000_000
    )
    billing_requests_per_minute_max: Whole = key(
        "Requests of one key to the billing API, and as many to its pages; more are answered 429; 0: no limit",
        default=120,
        unit="requests",
        ge=0,
        le=1_000_000,
    )
    unknown_keys_per_minute_max: Whole = key(
        "Keys that nobody has, from one address (IPv6: a /64); more are refused unseen; 0: no limit",
        default=300,
        unit="keys",
        ge=0,
        le=1_000_000,
    )
    drains_max: Whole = key(
        "Streams that are read on after their clients left; more are cut", default=500, unit="calls", ge=0, le=1_000_000
    )
    header_bytes_max: Whole = key(
        "Size of a request's line and of a header", default=32768, unit="bytes", ge=4096, le=MEBIBYTE
    )
    head_seconds_max: Seconds = key(
        "Time for a request's head, from its first byte, and for the first byte on a connection",
        default=20.0,
        unit="seconds",
        gt=0,
        le=3600,
    )
    body_read_seconds_max: Seconds = key(
        "Time for a whole JSON body, and pause allowed within a streamed one",
        default=60.0,
        unit="seconds",
        gt=0,
        le=3600,
    )
    json_items_max: Whole = key(
        "Lists, objects and members in a JSON request of more bytes than that; more are refused",
        default=250_000,
        unit="items",
        ge=1000,
        le=100_000_000,
    )
    shutdown_seconds_max: Seconds = key(
        "Time for calls and sockets to finish at shutdown (SIGTERM)", default=30.0, unit="seconds", ge=0, le=3600
    )
    drain_seconds: Seconds = key(
        "Time for calls and sockets to finish in the workers that a reload (SIGHUP) replaces",
        default=600.0,
        unit="seconds",
        ge=0,
        le=86400,
    )
    sweep_seconds: Seconds = key("Pause between two rounds of the sweeper", default=1.0, unit="seconds", gt=0, le=3600)
    sweep_accounts: Whole = key(
        "Accounts swept in one round, by one process for all", default=200, unit="accounts", ge=1, le=1_000_000
    )
    verify_accounts: Whole = key(
        "Accounts whose numbers the supervisor compares each second; 0: none", default=5, unit="accounts", ge=0,
        le=10_000,
    )  # fmt: skip
    spool_bytes_max: Whole = key(
        "Size of the spool on disk", default=256 * MEBIBYTE, unit="bytes", ge=MEBIBYTE, le=1024 * 1024 * MEBIBYTE
    )


class IdempotencySettings(Settings):
    """What is remembered of paid calls that carry an `Idempotency-Key`."""

    seconds: Whole = key(
        "How long a key is remembered; never longer than `redis.operation_seconds`",
        default=86400,
        unit="seconds",
        ge=60,
        le=604800,
    )
    keys_max: Whole = key("Keys of one account; more are refused", default=10_000, unit="keys", ge=1, le=1_000_000)
    answer_bytes_max: Whole = key(
        "Size of an answer that is kept; 0: none is", default=65536, unit="bytes", ge=0, le=16 * MEBIBYTE
    )
    account_bytes_max: Whole = key(
        "Size of the kept answers of one account together",
        default=64 * MEBIBYTE,
        unit="bytes",
        ge=0,
        le=16 * 1024 * MEBIBYTE,
    )


def _allowed(text: str) -> str:
    try:
        Allowed.of([text])
    except ValueError:
        raise ValueError(
            "must be an address, a network like 10.1.0.0/16, or the name of a host like hooks.internal"
        ) from None
    return text


class OutwardSettings(Settings):
    """Requests to addresses that customers name: webhooks, alerts. Only public addresses are called, over HTTPS."""

    allow: list[Annotated[Word, AfterValidator(_allowed)]] = key(
        "Addresses, networks and hosts that are called although they are not public. Those that a URL names as they "
        "stand here may be called without TLS, and at any port",
        default=list,
        shown="none",
    )
    plain_http: Flag = key("Call public addresses without TLS, too, where a URL starts with `http:`", default=False)


class PagesSettings(Settings):
    """The pages for people: billing for customers, accounts for operators."""

    title: Word = key("What the pages are headed by", default="Gateway")
    contact: Word = key(
        "Whom customers ask about credit and plans, as it is shown to them: a name, an address or a number",
        default="your provider",
    )
    visit_seconds: Whole = key(
        "How long somebody who signed in stays so", default=28800, unit="seconds", ge=60, le=604800
    )
    secure_cookies: Flag = key(
        "Cookies are sent over https only: where a balancer in front speaks TLS. Always so on a listener with `tls`",
        default=False,
    )


def _network(text: str) -> str:
    if Allowed.of([_allowed(text)]).names:
        raise ValueError("must be an address or a network like 10.1.0.0/16: names can be anybody's")
    return text


class PlugInSettings(Settings):
    """Ways to the ledger for what is not proxied. They are at the customers' listener."""

    credit_api: Flag = key("Serve the credit API, `/credit/v1`, to tokens with the scope `credit`", default=False)
    forward_auth: Flag = key("Serve forward-auth, `/authz`, to such tokens, and to `trusted` addresses", default=False)
    trusted: list[Annotated[Word, AfterValidator(_network)]] = key(
        "Addresses and networks of proxies that need no token at `/authz`. The connection's own address counts, "
        "whatever headers say",
        default=list,
        max_length=100,
    )
    uri_header: HeaderName = key(
        "Header in which a proxy says the original path and query. It must set it itself, whatever its client sent",
        default="X-Forwarded-Uri",
    )
    method_header: HeaderName = key("Header in which it says the original method", default="X-Forwarded-Method")
    host_header: HeaderName = key("Header in which it says the original host, for routes of one host", default="Host")
    hold_seconds: Whole = key(
        "A hold ends by itself after this, unless it is renewed or asked for longer", default=60, unit="seconds", ge=3,
        le=86400,
    )  # fmt: skip
    hold_seconds_max: Whole = key(
        "Longest time that one may ask for, each time", default=86400, unit="seconds", ge=3, le=30 * 86400
    )


class AdminTokenSettings(Settings):
    """A token of the admin API. The token itself is nowhere."""

    name: Name = key("Who has it: the audit log says this name")
    scopes: Annotated[list[AdminScope], AfterValidator(frozenset)] = key("What it is good for", min_length=1)
    sha256: Annotated[str, AfterValidator(_sha256)] = key("SHA-256 of the token, in hex")


def _told_apart(tokens: list[AdminTokenSettings]) -> list[AdminTokenSettings]:
    names = [token.name for token in tokens]
    if len(set(names)) < len(names) or "admin" in names:
        raise ValueError("each has a name of its own, and `admin` is whoever has admin_token")
    return tokens


class GatewaySettings(Settings):
    """The file that everything starts from."""

    customers: CustomersListenerSettings = key("The customers' listener", default=CustomersListenerSettings)
    ops: OpsListenerSettings = key("The operators' listener: admin API, health, metrics", default=OpsListenerSettings)
    workers: Whole = key(
        "Processes that serve customers on one port; 0: one for each core", default=0, unit="processes", ge=0, le=256
    )
    redis: RedisYaml = key("The ledger's server", default=RedisYaml)
    spool_directory: Word = key(
        "Where charges wait on disk while the ledger is away, relative to the working directory", default="data/spool"
    )
    admin_token: Secret = key("Bearer token of the admin API. May be `file:/path`")
    admin_tokens: Annotated[list[AdminTokenSettings], AfterValidator(_told_apart)] = key(
        "More tokens of the admin API, each with a name and scopes (`gateway admin-tokens create` makes one)",
        default=list,
        max_length=100,
    )
    key_pepper: Annotated[Secret, AfterValidator(_pepper)] = key(
        "Mixed into the digests of API keys; keys of another are unknown unless that is accepted. May be `file:/path`"
    )
    key_peppers_accepted: list[Annotated[Secret, AfterValidator(_pepper)]] = key(
        "Other peppers, the newest first: keys that were made with one are taken too, and go over to `key_pepper`",
        default=list,
        max_length=4,
    )
    trust_forwarded_for: Flag = key(
        "Take the client's address from X-Forwarded-For (behind a balancer of ours)", default=False
    )
    reload_on_change: Annotated[ReloadOnChange, BeforeValidator(plain_text)] = key(
        "What a change of files takes up by itself, as SIGHUP does: `certificates`, `everything` or `nothing`",
        default="certificates",
    )
    log: LogSettings = key("What is logged", default=LogSettings)
    limits: LimitsSettings = key("Limits of one worker", default=LimitsSettings)
    idempotency: IdempotencySettings = key(
        "What is remembered of paid calls that carry an `Idempotency-Key`", default=IdempotencySettings
    )
    outward: OutwardSettings = key("Requests to addresses that customers name", default=OutwardSettings)
    alerts: AlertsSettings = key("How alerts are sent", default=AlertsSettings)
    pages: PagesSettings = key("The pages for people", default=PagesSettings)
    plug_in: PlugInSettings = key("Ways to the ledger for what is not proxied", default=PlugInSettings)
    export: ExportSettings = key("Where the ledger is kept beside Redis", default=ExportSettings)
    payments: PaymentsSettings = key("How credit is bought", default=PaymentsSettings)
    tracing: TracingSettings | None = key("Traces of calls, told to a collector", default=None, shown="off")
    errors: ErrorsSettings = key(
        "The dialect of refusals that no product words: unknown paths",
        default=lambda: ErrorsSettings(body={"error": "{message}"}),
        shown='`{body: {error: "{message}"}}`',
    )
    upstreams: dict[Name, UpstreamSettings] = key("The services behind the gateway, by name", min_length=1)
    include: list[Annotated[str, AfterValidator(_pattern)]] = key(
        "The other files, or patterns of them, relative to this file", min_length=1
    )


def secret_keys(model: type[Settings]) -> frozenset[str]:
    """The names of the keys that hold secrets, at any depth."""
    found: set[str] = set()
    for name, info in model.model_fields.items():
        parts = (getattr(part, "__metadata__", ()) for part in get_args(info.annotation))  # those of a list
        if any(_marks_secret(mark) for marks in (info.metadata, *parts) for mark in marks):
            found.add(name)
    return frozenset(found)


def _marks_secret(mark: Any) -> bool:
    return mark in Secret.__metadata__  # type: ignore[attr-defined]


#: Keys whose lines are never shown, and where they are.
_WITH_SECRETS: tuple[type[Settings], ...] = (
    GatewaySettings, UpstreamSettings, EndpointSettings, RedisYaml, StripeSettings, BillingSystemSettings,
    CloudEventsSettings, PostgresSettings, OtlpSettings,
)  # fmt: skip
SECRETS = frozenset[str]().union(*map(secret_keys, _WITH_SECRETS))
