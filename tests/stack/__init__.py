"""The whole stack on loopback, without containers: what an operator sees of it while things happen."""
