"""A reverse proxy that enforces prepaid credit exactly, in the path of every call."""

__version__ = "0.1.0"
