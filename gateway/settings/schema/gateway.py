"""`gateway.yaml`: what everything starts from, and what of it is short enough to stand here."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator

from gateway.core.addresses import Allowed
from gateway.core.redis_url import read_redis_url
from gateway.settings.origins import read_text
from gateway.settings.runtime import AdminScope, ReloadOnChange
from gateway.settings.schema.alerts import AlertsSettings
from gateway.settings.schema.base import Flag, HeaderName, Name, Seconds, Secret, Settings, Whole, Word, key, plain_text
from gateway.settings.schema.errors import ErrorsSettings
from gateway.settings.schema.exports import CloudEventsSettings, ExportSettings, PostgresSettings
from gateway.settings.schema.limits import IdempotencySettings, LimitsSettings
from gateway.settings.schema.listeners import CustomersListenerSettings, OpsListenerSettings
from gateway.settings.schema.payments import BillingSystemSettings, PaymentsSettings, StripeSettings
from gateway.settings.schema.tracing import OtlpSettings, TracingSettings
from gateway.settings.schema.upstream import EndpointSettings, UpstreamSettings

_REDIS_SCHEMES = frozenset(
    {"redis", "rediss", "unix", "redis+cluster", "rediss+cluster", "redis+sentinel", "rediss+sentinel"}
)


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


class RedisYaml(Settings):
    """The ledger's server."""

    url: Annotated[Secret, AfterValidator(_redis_url)] = key(
        "URL of the server; empty: an embedded server. May be `file:/path`", default="", shown="embedded"
    )
    directory: Word = key("Where the embedded server keeps its data", default="data/redis")
    prefix: Name = key("What every key in Redis begins with, some after a brace", default="gw")
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
