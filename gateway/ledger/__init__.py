"""Where credit is kept: the ledgers, the link to Redis, the embedded server, the spool."""
