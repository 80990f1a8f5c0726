"""The order of effects for a call: identify, admit, forward, meter, settle, respond."""
