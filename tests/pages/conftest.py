"""What the tests of pages share: one browser for a test."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from playwright.async_api import async_playwright

from tests.pages.looking import ARGUMENTS, CHROMIUM, Looking


@pytest.fixture
async def looking() -> AsyncIterator[Looking]:
    """One browser for a test; at its end it must not have complained."""
    async with AsyncExitStack() as stack:
        playwright = await stack.enter_async_context(async_playwright())
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        stack.push_async_callback(browser.close)
        looking = Looking(browser)
        yield looking
        assert looking.complaints == []
