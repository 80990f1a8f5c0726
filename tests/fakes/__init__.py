"""Small servers and classes that stand in for what the gateway talks to, or cut the line to it."""
