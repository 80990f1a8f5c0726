"""How long the audio in a file is, read as it streams past: `probe` feeds the walks through its containers."""
