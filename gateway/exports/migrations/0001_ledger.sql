-- The ledger's entries, one row each. An entry's id is "<ms>-<seq>"; amounts are nano-dollars. `data` is json, not jsonb:
-- it is kept as it was written, and holds any text that the ledger may hold.
create table entries (
    account text not null,
    ms bigint not null,
    seq bigint not null,
    kind text not null,
    amount bigint not null,
    balance bigint not null,
    operation text not null,
    at timestamptz not null,
    data json not null,
    primary key (account, ms, seq)
) partition by range (ms);

-- What charges are for: one row for each of their items.
create table usage (
    account text not null,
    ms bigint not null,
    seq bigint not null,
    item integer not null,
    at timestamptz not null,
    sku text not null,
    quantity numeric not null,
    unit text not null,
    unit_price text not null,
    amount bigint not null,
    product text not null,
    route text not null,
    key_id text not null,
    call_id text not null,
    price_version text not null,
    rate_card text not null,
    basis text not null,
    primary key (account, ms, seq, item)
) partition by range (ms);

-- What else is stored of accounts, as it was when it was read last: plan, keys by their digests, settings. From this and
-- the entries an account is restored. It holds secrets of webhooks and names of payment methods.
create table accounts (
    account text primary key,
    read_ms bigint not null,
    standing json not null
);
