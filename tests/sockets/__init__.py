"""Sockets: the relay, its watcher, the dialer, the taking over of a customer's connection."""
