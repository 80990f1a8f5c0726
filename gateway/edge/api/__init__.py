"""The gateway's own APIs over HTTP: administration, billing, credit, forward-auth."""
