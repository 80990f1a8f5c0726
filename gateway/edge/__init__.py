"""Where bytes come in and go out: listeners, identity, admin, the composition root."""
