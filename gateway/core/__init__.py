"""The pure core: values in, values out. No await, no clock, no randomness, no I/O, no logging."""
