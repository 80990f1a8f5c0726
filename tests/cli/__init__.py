"""Tests of the command line: real commands, a real Redis, real processes."""
