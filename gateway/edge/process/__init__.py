"""The processes that make a gateway: a supervisor, its workers, and what passes between them."""
