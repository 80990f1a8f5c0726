"""`make demo-stack`: everything on loopback for some minutes, and the dashboard's panels as pictures at the end.

Redis, PostgreSQL, a collector of spans, Prometheus with the project's own rules, the sandbox, a gateway with two
workers, customers of every product. A price is changed in the middle, then Redis is pulled until an alert fires. The
exit code is 1 if something does not hold: a charge that does not explain itself, an alert that does not fire, books
that disagree.
"""

import argparse
import asyncio
import re
import sys
import tempfile
from pathlib import Path

from playwright.async_api import async_playwright

from tests.pages.looking import ARGUMENTS, CHROMIUM
from tests.stack.story import Told, happen, stack
from tests.system.prometheus import PROGRAM


async def _keep(told: Told, pictures: Path) -> None:
    """The dashboard's rows as pictures; as SVG where there is no Chromium to make PNG of it."""
    pictures.mkdir(parents=True, exist_ok=True)
    named = {re.sub("[^a-z]+", "-", row.lower()).strip("-"): svg for row, svg in told.pictures.items()}
    if not CHROMIUM.exists():
        for name, svg in named.items():
            (pictures / f"{name}.svg").write_text(svg)
        return
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = await browser.new_page()
        for name, svg in named.items():
            await page.set_content(f"<style>body{{margin:0}}svg{{display:block}}</style>{svg}")
            await page.locator("svg").screenshot(path=pictures / f"{name}.png")
        await browser.close()


async def _run(minutes: float, pictures: Path) -> int:
    with tempfile.TemporaryDirectory(prefix="stack-") as directory:
        async with stack(Path(directory), hurried=minutes < 2) as all_of_it:
            sys.stderr.write(f"metrics: {all_of_it.served.ops_url}/metrics\nPrometheus: {all_of_it.prometheus.url}\n")
            told = await happen(all_of_it, 60 * minutes)
    await _keep(told, pictures)
    width = max(len(what) for what, _ in told.lines)
    sys.stdout.write("".join(f"{what:<{width}}  {figure}\n" for what, figure in told.lines))
    sys.stdout.write(f"{'pictures':<{width}}  {pictures}\n")
    sys.stdout.write("".join(f"DOES NOT HOLD: {why}\n" for why in sorted(set(told.wrong))))
    return int(bool(told.wrong))


def main() -> int:
    """Run it, where there is a Prometheus."""
    parser = argparse.ArgumentParser(prog="stack", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--pictures", type=Path, default=Path("build/stack"))
    options = parser.parse_args()
    if PROGRAM is None:
        sys.stdout.write("Nothing was run: there is no `prometheus` here. Debian's package has it.\n")
        return 0
    return asyncio.run(_run(options.minutes, options.pictures))


if __name__ == "__main__":
    sys.exit(main())
