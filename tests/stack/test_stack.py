"""The whole stack, hurried: what `make demo-stack` shows holds."""

from pathlib import Path

import pytest

from tests.stack.story import happen, stack
from tests.system.prometheus import PROGRAM


@pytest.mark.soak
@pytest.mark.skipif(PROGRAM is None, reason="there is no prometheus here")
async def test_an_operator_is_told_and_every_charge_explains_itself(tmp_path: Path) -> None:
    """Twenty seconds of all products: an alert fires for a pulled Redis and is resolved, a reload changes a price at
    one moment, PostgreSQL and answers have the ledger's charges, and each row of the dashboard has something to show.
    """
    async with stack(tmp_path, hurried=True) as all_of_it:
        told = await happen(all_of_it, 20)
    assert told.wrong == []
