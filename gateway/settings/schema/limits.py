"""`limits`, `idempotency`: how much of anything there may be, and for how long."""

from gateway.settings.schema.base import Seconds, Settings, Whole, key

MEBIBYTE = 1024 * 1024


class LimitsSettings(Settings):
    """Limits of one worker."""

    hold_lease_seconds: Whole = key(
        "A call's hold ends by itself so long after its process died", default=60, unit="seconds", ge=3, le=3600
    )
    connections_max: Whole = key(
        "Open connections of customers; fewer where the system lets a worker open too few files: each takes two",
        default=10_000,
        unit="connections",
        ge=1,
        le=1_000_000,
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
