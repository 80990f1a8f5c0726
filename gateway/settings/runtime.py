"""The compiled config as a whole: everything that a process is told, frozen.

Owns: the shape of what concerns the process (listeners, its Redis, limits, secrets), and where the rest of it is.
Does not know: YAML, files, or how any of it was checked (see `load`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from gateway.settings.exports import Exports
from gateway.settings.origins import Origins
from gateway.settings.payments import Payments
from gateway.settings.plans import PriceBook, Tier
from gateway.settings.products import ErrorStyle, Product
from gateway.settings.routes import Route
from gateway.settings.tls import Tls
from gateway.settings.tracing import Tracing


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Where the gateway listens."""

    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisSettings:
    """The ledger's server. `url` empty: an embedded server under `directory`. Seconds as named."""

    url: str = field(default="", repr=False)
    directory: Path = Path("data/redis")
    prefix: str = "gw"
    connect_seconds_max: float = 1.0
    command_seconds_max: float = 2.0
    operation_seconds: int = 7 * 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of one worker. Bytes, seconds and counts as named."""

    hold_lease_seconds: int = 60
    connections_max: int = 10_000
    connections_per_address_max: int = 2_500
    calls_max: int = 5_000
    calls_per_account_max: int = 2_500
    handshakes_max: int = 500
    billing_requests_per_minute_max: int = 120
    unknown_keys_per_minute_max: int = 300
    drains_max: int = 500
    header_bytes_max: int = 32 * 1024
    head_seconds_max: float = 20.0
    body_read_seconds_max: float = 60.0
    json_items_max: int = 250_000
    shutdown_seconds_max: float = 30.0
    drain_seconds: float = 600.0
    sweep_seconds: float = 1.0
    sweep_accounts: int = 200
    verify_accounts: int = 5
    spool_bytes_max: int = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Idempotency:
    """What is remembered of calls with an Idempotency-Key. Counts and bytes are of one account, or of one answer."""

    seconds: int = 86_400
    keys_max: int = 10_000
    answer_bytes_max: int = 64 * 1024
    account_bytes_max: int = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Smtp:
    """The server that mails are sent through. `sender` is an address; `security` is how TLS begins."""

    host: str
    port: int
    security: Literal["starttls", "tls", "none"]
    username: str
    password: str = field(repr=False)
    sender: str
    sender_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outward:
    """Whom requests to addresses that customers name may reach, beside public addresses over HTTPS."""

    allow: tuple[str, ...] = ()  # addresses, networks and names
    plain_http: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """The pages for people. `contact` is whom customers ask, in words. Seconds as named."""

    title: str = "Gateway"
    contact: str = "your provider"
    visit_seconds: int = 28_800
    secure_cookies: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PlugIn:
    """Ways to the ledger for what is not proxied: which are on, whom they trust, how long their holds live.

    `trusted` are addresses and networks whose requests to /authz need no token. Seconds as named.
    """

    credit_api: bool = False
    forward_auth: bool = False
    trusted: tuple[str, ...] = ()
    uri_header: str = "X-Forwarded-Uri"
    method_header: str = "X-Forwarded-Method"
    host_header: str = "Host"
    hold_seconds: int = 60
    hold_seconds_max: int = 86_400

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Where those that are on answer, like `OWN_PREFIXES`."""
        return (*(("/credit",) if self.credit_api else ()), *(("/authz",) if self.forward_auth else ()))


#: Paths at and below which the gateway itself answers customers: nothing there is forwarded.
OWN_PREFIXES: Final = ("/billing", "/callbacks")
AdminScope = Literal["read", "billing", "admin", "credit"]
#: Which files are taken up when they change, without being asked.
ReloadOnChange = Literal["certificates", "everything", "nothing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminToken:
    """A token of the admin API, by its digest (hex SHA-256)."""

    name: str
    scopes: frozenset[AdminScope]
    sha256: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """Everything, compiled. Replaced as a whole, never changed."""

    customers: Listener
    customers_tls: Tls | None = None
    regions: Mapping[str, str] = field(default_factory=dict)  # of hosts that clients call
    public_url: str = ""  # where services reach the customers' listener; "": they do not, and there are no callbacks
    ops: Listener
    ops_tls: Tls | None = None
    workers: int = 0  # 0: one for each core
    redis: RedisSettings
    spool_directory: Path
    admin_token: str = field(repr=False)
    admin_tokens: tuple[AdminToken, ...] = ()
    key_pepper: str = field(repr=False)
    key_peppers_accepted: tuple[str, ...] = field(default=(), repr=False)
    trust_forwarded_for: bool
    log_level: str
    limits: Limits
    idempotency: Idempotency = field(default_factory=Idempotency)
    payments: Payments = field(default_factory=Payments)
    outward: Outward = field(default_factory=Outward)
    exports: Exports = field(default_factory=Exports)
    tracing: Tracing | None = None  # None: calls are not traced
    smtp: Smtp | None = None  # None: no mails are sent
    pages: Pages = field(default_factory=Pages)
    plug_in: PlugIn = field(default_factory=PlugIn)
    products: Mapping[str, Product]
    routes: tuple[Route, ...]
    tiers: Mapping[str, Tier]
    default_tier: str
    prices: PriceBook
    default_errors: ErrorStyle
    digest: str  # of the files read, for /readyz and metrics
    reload_on_change: ReloadOnChange = "certificates"
    origins: Origins = field(default_factory=Origins, repr=False, compare=False)

    @property
    def forwarded(self) -> tuple[Route, ...]:
        """The routes whose calls are forwarded."""
        return tuple(route for route in self.routes if route.product.forwarded)

    @property
    def peppers(self) -> tuple[str, ...]:
        """All that are accepted; the first is the one that everything new is made with."""
        return (self.key_pepper, *self.key_peppers_accepted)
