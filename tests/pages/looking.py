"""What tests in a real headless Chromium share: a browser whose complaints are kept, and what is wrong with a page.

Owns: how a page is opened, photographed (`build/pages`) and judged. Does not know: what any page is for.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, ConsoleMessage, Page

from tests.harness import ROOT, Running

CHROMIUM = Path("/usr/bin/chromium")
PICTURES = ROOT / "build" / "pages"
DESKTOP, PHONE = (1280, 800), (390, 844)
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


class Looking:
    """A browser at work. Whatever it complains of is kept: errors, and what the content security policy refused."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.complaints: list[str] = []
        self.elsewhere = ""  # a site that is not ours, and may be complained of

    @asynccontextmanager
    async def page(
        self, size: tuple[int, int] = DESKTOP, *, scheme: str = "light", javascript: bool = True
    ) -> AsyncIterator[Page]:
        """A page of a browser that has never been here."""
        width, height = size
        context = await self.browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if scheme == "dark" else "light",
            java_script_enabled=javascript,
        )
        page = await context.new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._said)
        yield page
        await context.close()

    def _said(self, said: ConsoleMessage) -> None:
        if said.type in ("error", "warning") and not (self.elsewhere and self.elsewhere in said.location["url"]):
            self.complaints.append(said.text)


async def photograph(page: Page, name: str) -> None:
    """Keep what is seen."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    await page.screenshot(path=PICTURES / f"{name}.png")


async def sign_in(page: Page, gw: Running, key: str) -> None:
    await page.goto(f"{gw.url}/billing")
    await page.get_by_label("API key").fill(key)
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_role("heading", name="Available credit").wait_for()


async def faults(page: Page) -> list[str]:
    """What is wrong with what is seen: wider than the screen, faint, without a name, too small to hit, out of order."""
    found: list[str] = await page.evaluate(FAINT)
    found += await page.evaluate(ASKEW)
    return found


#: Every piece of text whose contrast with what is behind it is below 4.5 (large text: 3).
FAINT = """() => {
  const part = (value) => { const c = value / 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
  const read = (text) => (text.match(/[0-9.]+/g) || []).map(Number);
  const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  const faint = [];
  for (const element of document.body.querySelectorAll("*")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !element.checkVisibility() || element.closest(".unseen, .skip")) continue;
    const style = getComputedStyle(element);
    let behind = element, ground = [0, 0, 0, 0];
    while (behind && !(ground.length === 3 || ground[3] === 1)) {
      ground = read(getComputedStyle(behind).backgroundColor);
      behind = behind.parentElement;
    }
    const ink = read(element instanceof SVGElement ? style.fill : style.color);
    const [a, b] = [light(ink), light(ground)].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.6 && style.fontWeight >= 700);
    if ((a + 0.05) / (b + 0.05) < (large ? 3 : 4.5)) faint.push(element.outerHTML.slice(0, 120));
  }
  return faint;
}"""

#: What cannot be found by a screen reader, or hit with a finger (WCAG 2.2: 24 pixels, but for links in a text).
ASKEW = """() => {
  const wrong = [], level = (heading) => Number(heading.tagName[1]);
  if (document.documentElement.scrollWidth > innerWidth) wrong.push("wider than the screen");
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  wrong.push(...ids.filter((id, place) => ids.indexOf(id) !== place).map((id) => `twice: ${id}`));
  for (const field of document.querySelectorAll("input:not([type=hidden]), select"))
    if (!field.labels.length) wrong.push(`no label: ${field.outerHTML}`);
  for (const element of document.querySelectorAll("[aria-labelledby]"))
    if (!document.getElementById(element.getAttribute("aria-labelledby"))) wrong.push(`nameless: ${element.className}`);
  const headings = [...document.querySelectorAll("h1, h2, h3")];
  if (headings.filter((heading) => level(heading) === 1).length !== 1) wrong.push("not one h1");
  headings.forEach((heading, place) => {
    if (level(heading) > (place ? level(headings[place - 1]) : 0) + 1) wrong.push(`jump: ${heading.innerText}`);
  });
  for (const link of document.querySelectorAll("nav a"))
    if (link.getBoundingClientRect().right > innerWidth) wrong.push(`out of sight: ${link.textContent}`);
  for (const amount of document.querySelectorAll(".amount"))
    if (amount.offsetHeight > 1.5 * parseFloat(getComputedStyle(amount).lineHeight)) wrong.push("broken amount");
  for (const what of document.querySelectorAll(".entries .what"))
    if (what.offsetWidth < 80) wrong.push(`narrow: ${what.innerText}`);
  const seen = (part) => {
    const range = new Range();
    range.selectNodeContents(part);
    return range.getBoundingClientRect();
  };
  const apart = (a, b) => a.right < b.left + 1 || b.right < a.left + 1 || a.bottom < b.top + 1 || b.bottom < a.top + 1;
  for (const summary of document.querySelectorAll(".entries summary")) {
    const boxes = [...summary.children].map(seen);
    if (boxes.some((box, place) => !boxes.slice(place + 1).every((other) => apart(box, other))))
      wrong.push(`one over another: ${summary.innerText}`);
  }
  for (const target of document.querySelectorAll("button, a, input:not([type=hidden]), select, summary")) {
    const inText = target.tagName === "A" && target.closest("p, dd, th, td");
    if (!target.checkVisibility() || target.closest(".skip") || inText) continue;
    const hit = target.closest("label") || target;
    if (hit.getBoundingClientRect().height < 24) wrong.push(`small: ${target.outerHTML.slice(0, 120)}`);
    if (target.matches("button, a") && !target.textContent.trim()) wrong.push(`no text: ${target.outerHTML}`);
  }
  return wrong;
}"""
