"""A deterministic simulator of the credit engine.

Many gateways, calls, jobs, sessions and administrators drive the real scripts on a real server, over lines that lose,
delay, double and reorder. One random number generator decides everything: the same seed is the same history.
"""
