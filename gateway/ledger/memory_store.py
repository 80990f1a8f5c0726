"""What the two parts of the ledger in memory share: the accounts' books and the time.

Owns: the books by account, the index of key digests, the audit log.
Does not know: what any operation means.
"""

from collections.abc import Callable

from gateway.core.errors import UnknownAccount
from gateway.ledger.memory_books import Books
from gateway.ports import AuditLine


class MemoryStore:
    """`clock` is the store's, in milliseconds."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._books: dict[str, Books] = {}
        self._paid: dict[tuple[str, str], str] = {}  # the account that a payment was credited to first
        self._audit: list[AuditLine] = []
        self._digests: dict[str, tuple[str, str]] = {}
        self._digests_until: dict[str, int] = {}  # of those that keys were moved from

    def _of(self, account: str) -> Books:
        if account not in self._books:
            raise UnknownAccount(f"no account {account!r}")
        return self._books[account]

    def _at(self, account: str) -> tuple[Books, int]:
        """The account's books and the time, after ending what is over."""
        books, now = self._of(account), self._clock()
        books.end_what_is_over(now)
        return books, now
