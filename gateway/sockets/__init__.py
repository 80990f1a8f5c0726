"""Sockets: WebSocket frames, handshakes, and two sockets joined into one, byte for byte."""
