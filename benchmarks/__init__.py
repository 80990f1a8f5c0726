"""Benchmarks: the gateway beside a textbook pass-through proxy. Ratios within one round, never absolute figures."""
