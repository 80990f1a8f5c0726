"""What may stand in the files: one model per mapping, each key with its meaning, unit and default.

`docs/reference/configuration.md` is checked against these models.
"""
