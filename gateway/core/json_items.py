"""How much a JSON text holds, told before it is parsed.

Owns: an upper bound of its lists, objects and members, at the cost of a few searches.
Does not know: what is done with one that holds too much.
"""


def too_many_items(body: bytes, items_max: int) -> bool:
    """Whether a JSON text may have more lists, objects and members than that: each takes as much memory as twenty bytes
    of text, so that a small text can fill a large memory. Commas and brackets in its strings count as well.
    """
    return len(body) > items_max and body.count(b",") + body.count(b"[") + body.count(b"{") > items_max
