"""Connections to the services behind the gateway: one narrow port, header hygiene, timeouts."""
