"""Observers: they are told frozen records after the fact, and are the only files that know their library."""
