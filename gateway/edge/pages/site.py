"""A site: pages from templates, assets, the headers that all of them carry, and forms that only its own pages can send.

Owns: how a page is written and a form is read, the content security policy, how a refusal or fault looks as a page.
Does not know: what is on any page, or who may see it.
"""

import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler
from jinja2 import Environment, PackageLoader, StrictUndefined

from gateway.core.errors import LedgerUnavailable, place_of
from gateway.edge.pages import wording
from gateway.edge.pages.visits import Visit, Visits

_log = logging.getLogger(__name__)
FORM_BYTES_MAX: Final = 16_384
_FIELDS_MAX: Final = 50
_TYPES: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
#: Nothing but our own files, no inline script or style, in nobody's frame.
POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_PAGE: Final = {**_HEADERS, "Cache-Control": "no-store", "Content-Type": "text/html; charset=utf-8"}
_ASSET: Final = {**_HEADERS, "Cache-Control": "public, max-age=31536000, immutable"}
#: What templates may write a value with, by its name.
_WORDS: Final = (
    wording.usd, wording.usd_exact, wording.usd_near, wording.usd_short, wording.usd_signed, wording.iso, wording.date,
    wording.date_time, wording.day, wording.month, wording.span, wording.spoken, wording.quantity, wording.per_unit,
    wording.units, wording.gauge,
)  # fmt: skip
Page = Callable[[web.Request, Visit], Awaitable[web.Response]]
Act = Callable[[web.Request, Visit, Mapping[str, str]], Awaitable[web.Response]]


class Told(Exception):
    """A request is not served: the page that says so has this status, title and text, and leads back to a page."""

    def __init__(
        self, status: int, title: str, text: str, *, back: str = "", headers: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        super().__init__(text)
        self.status = status
        self.title = title
        self.text = text
        self.back = back
        self.headers = headers


class Site:
    """The pages below a path. `facts` is what every template may use beside what its page gives it."""

    def __init__(self, *, path: str, visits: Visits, facts: Mapping[str, Any]) -> None:
        self.path = path
        self.visits = visits
        self._facts = dict(facts)
        self.app = web.Application(middlewares=[self._telling], client_max_size=FORM_BYTES_MAX)
        self.app.router.add_get("/assets/{name}", _asset)

    def add_page(self, path: str, page: Page) -> None:
        """What is shown at a path. The visit is kept by the browser."""

        async def handle(request: web.Request) -> web.Response:
            return await page(request, self.visits.of(request))

        self.app.router.add_get(path, handle)

    def add_act(self, path: str, act: Act, *, stale: Callable[[Visit], web.Response] | None = None) -> None:
        """What a form does that is sent to a path: only one that a page of this very visit has.

        `stale` answers any other.
        """

        async def handle(request: web.Request) -> web.Response:
            visit, form = self.visits.of(request), await _form(request)
            is_ours = _is_from_here(request)
            if not is_ours or not self.visits.is_form_of(visit, form.get("form_token", "")):
                if is_ours and stale is not None:
                    return stale(visit)
                if is_ours and not visit.who:
                    raise Told(403, "You are signed out", "Nothing was done. Sign in, and try again.")
                raise Told(
                    403, "This form is out of date", "Nothing was done. Go back, reload the page, and try again."
                )
            return await act(request, visit, form)

        self.app.router.add_post(path, handle)

    def show(self, template: str, visit: Visit, *, status: int = 200, **facts: Any) -> web.Response:
        """A page for this visit."""
        response = web.Response(status=status, headers=_PAGE, text=self._written(template, visit, facts))
        self.visits.keep(visit, response)
        return response

    def go(self, path: str, visit: Visit | None = None) -> web.Response:
        """On to another page of the site, after a form or where this one is not for the visitor."""
        response = self._gone(self.path + path)
        if visit is not None:
            self.visits.keep(visit, response)
        return response

    @staticmethod
    def _gone(path: str) -> web.Response:
        return web.Response(status=303, headers={**_HEADERS, "Location": path})

    def _written(self, template: str, visit: Visit, facts: Mapping[str, Any]) -> str:
        own = {
            "here": None,
            "owner": None,
            "site": self.path,
            "visit": visit,
            "form_token": self.visits.form_token(visit),
            "asset": self._asset,
        }
        return _environment().get_template(template).render(self._facts | own | dict(facts))

    def _asset(self, name: str) -> str:
        """The address of an asset."""
        return f"{self.path}/assets/{_assets().addresses[name]}"

    @web.middleware
    async def _telling(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Every refusal and fault is told as a page. What went wrong inside is not."""
        try:
            return await handler(request)
        except Told as error:
            told = error
        except web.HTTPNotFound:
            if request.method in ("GET", "HEAD") and request.path.endswith("/"):
                return self._gone(request.rel_url.raw_path.rstrip("/"))
            told = Told(404, "There is no such page", "The address may be wrong, or what it names is no longer there.")
        except web.HTTPMethodNotAllowed as error:
            told = Told(
                405, "Not in this way", "This address does not take what was sent to it.",
                headers={"Allow": ", ".join(sorted(error.allowed_methods))},
            )  # fmt: skip
        except web.HTTPRequestEntityTooLarge:
            told = Told(413, "This is too much", f"A form has at most {FORM_BYTES_MAX} bytes.")
        except LedgerUnavailable:
            told = Told(
                503, "The books cannot be read right now", "Your credit is safe. Reload in a moment.",
                headers={"Retry-After": "2"},
            )  # fmt: skip
        except Exception as error:  # noqa: BLE001 - a page told is better than a cut connection
            _log.error("%s", place_of(error))
            told = Told(500, "Something went wrong here", "It was not your fault. Reload, or try again later.")
        response = self.show("told.html", self.visits.of(request), status=told.status, told=told)
        response.headers.update(told.headers)
        if request.method == "POST" and not _is_from_here(request):
            response.cookies.clear()  # browsers send such a form without our cookie: a new one would end the visit
        return response


class _Assets:
    """The files of `assets/`, each under a name with its digest in it, so that browsers may keep them for good."""

    def __init__(self) -> None:
        self.addresses: dict[str, str] = {}
        self.files: dict[str, tuple[str, bytes]] = {}
        for file in sorted((files("gateway.edge.pages") / "assets").iterdir(), key=lambda each: each.name):
            stem, _, kind = file.name.rpartition(".")
            content = file.read_bytes()
            address = f"{stem}.{hashlib.sha256(content).hexdigest()[:16]}.{kind}"
            self.addresses[file.name] = address
            self.files[address] = (_TYPES[kind], content)


@cache
def _assets() -> _Assets:
    return _Assets()


@cache
def _environment() -> Environment:
    """The templates: everything is escaped, and a name that nobody gave is a fault."""
    environment = Environment(
        loader=PackageLoader("gateway.edge.pages"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, auto_reload=False,
    )  # fmt: skip
    for word in _WORDS:
        environment.filters[word.__name__] = word
    return environment


async def _asset(request: web.Request) -> web.Response:
    found = _assets().files.get(request.match_info["name"])
    if found is None:
        raise web.HTTPNotFound
    kind, content = found
    return web.Response(body=content, content_type=kind, charset="utf-8", headers=_ASSET)


async def _form(request: web.Request) -> Mapping[str, str]:
    """The fields of a form, the first of each name. Files are not for us."""
    if request.content_type != "application/x-www-form-urlencoded":
        raise Told(415, "Not in this way", "Only forms are read here.")
    body = await request.read()
    if len(body) > FORM_BYTES_MAX:
        raise web.HTTPRequestEntityTooLarge(max_size=FORM_BYTES_MAX, actual_size=len(body))
    try:
        fields = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=_FIELDS_MAX)
    except ValueError:
        raise Told(400, "This form cannot be read", "Go back, reload the page, and try again.") from None
    return dict(reversed(fields))


def _is_from_here(request: web.Request) -> bool:
    """Whether a page of this host sent the form. Browsers say so; who is none shows it by the form's token alone."""
    origin = request.headers.get("Origin")
    if origin is not None:
        return urlsplit(origin).netloc.lower() == request.host.lower()
    return request.headers.get("Sec-Fetch-Site", "same-origin") == "same-origin"
