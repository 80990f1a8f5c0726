"""Where bytes come in and go out: connections, APIs, pages, processes, and the composition root that wires them."""
