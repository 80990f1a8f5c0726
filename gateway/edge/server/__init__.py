"""Customers' connections: from a socket to a request, and from an answer to bytes."""
