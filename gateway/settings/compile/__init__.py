"""From checked settings to the runtime: what only shows when keys, files and prices are seen together."""
