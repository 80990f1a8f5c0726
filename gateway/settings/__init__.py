"""From YAML to a frozen runtime: read, check, compile. The path of a call sees only the runtime."""
