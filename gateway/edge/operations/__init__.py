"""What may be done with accounts, once: for the APIs, the pages and the command line, and what may be asked of each."""
