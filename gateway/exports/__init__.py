"""Those who keep what the ledger exports: files, services that take CloudEvents, PostgreSQL."""
