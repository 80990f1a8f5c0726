"""The config from its files: read, check, compile; every problem at once.

Owns: which files there are and what kind each is, the order of the checks.
Does not know: any single key. A config with a problem is no config: nothing of it is used.
"""

import hashlib
from collections.abc import Mapping, Sequence
from os.path import realpath
from pathlib import Path
from typing import Final, Literal, TypeVar

from gateway.settings.compile.errors import compile_errors
from gateway.settings.compile.exports import compile_exports
from gateway.settings.compile.jobs import compile_jobs
from gateway.settings.compile.payments import check_upgrades, compile_payments
from gateway.settings.compile.prices import check_priced, check_spelling, compile_prices, owners_of
from gateway.settings.compile.products import Made, compile_product, own_parameters
from gateway.settings.compile.routes import compile_routes
from gateway.settings.compile.samples import check_sample
from gateway.settings.compile.scope import (
    Scope,
    audio_kinds,
    job_measures,
    made_kinds,
    names_below,
    product_names,
    products_with_sockets,
)
from gateway.settings.compile.tiers import compile_tiers, products_given
from gateway.settings.compile.upstreams import compile_upstreams, regions_of
from gateway.settings.compile.whole import check_given, check_looks, check_names, check_reach, check_routes, jobs_of
from gateway.settings.origins import Pattern, Reading
from gateway.settings.plans import PriceBook, Tier
from gateway.settings.problems import Document, Place, Problem, Report, SettingsError, nearest
from gateway.settings.routing import Router
from gateway.settings.runtime import (
    OWN_PREFIXES,
    AdminToken,
    Idempotency,
    Limits,
    Listener,
    Outward,
    Pages,
    PlugIn,
    RedisSettings,
    Runtime,
    Smtp,
)
from gateway.settings.schema.base import Settings
from gateway.settings.schema.checked import checked
from gateway.settings.schema.gateway import SECRETS, GatewaySettings
from gateway.settings.schema.listeners import TlsSettings
from gateway.settings.schema.plans import PricesSettings, TiersSettings
from gateway.settings.schema.product import ProductSettings
from gateway.settings.tls import Tls
from gateway.settings.yaml import DOCUMENT_BYTES_MAX, read_yaml

__all__ = ["Problem", "SettingsError", "load"]

FILES_MAX: Final = 200
_Model = TypeVar("_Model", bound=Settings)
Kind = Literal["product", "tiers", "prices"]
#: The key that tells what kind of file it is.
_TELLING: Final[Mapping[str, Kind]] = {"product": "product", "tiers": "tiers", "price_lists": "prices"}


def load(path: Path, environ: Mapping[str, str]) -> Runtime:
    """The runtime that the file and those that it includes describe; SettingsError with every problem."""
    return _Loading(path, environ).runtime()


def spool_directory_of(path: Path, environ: Mapping[str, str]) -> Path:
    """Where a gateway with this config has its spool, as far as that can be told of a config with mistakes."""
    try:
        document, _ = read_yaml(str(path), path.read_bytes()[: DOCUMENT_BYTES_MAX + 1], environ, SECRETS)
    except OSError:
        document = None
    said = document.data.get("spool_directory") if document is not None and isinstance(document.data, dict) else None
    default = GatewaySettings.model_fields["spool_directory"].default
    return Path(said if isinstance(said, str) and said else default)


class _Loading:
    """One reading of the config."""

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        self._path = path
        self._environ = environ
        self._report = Report()
        self._digest = hashlib.sha256()
        self._reading = Reading()
        self._files: dict[Kind, list[Document]] = {"product": [], "tiers": [], "prices": []}
        self._unreadable = False  # some file could not be read at all, so names may be missing

    def runtime(self) -> Runtime:
        """Everything, compiled."""
        main = self._read(self._path, str(self._path))
        if main is None:
            raise SettingsError(self._report.problems)
        settings = checked(GatewaySettings, main, self._report, self._path.parent, self._reading)
        self._include(main, settings)
        runtime = self._compile(main, settings)
        if runtime is None or self._report.problems:
            raise SettingsError(self._report.problems)
        return runtime

    # ---- files

    def _read(self, path: Path, shown: str) -> Document | None:
        self._reading.opens(path)
        try:
            if path.exists() and not (path.is_file() or path.is_dir() or path == self._path):
                raise OSError("it is no file")  # a pipe that nobody writes to would be waited for
            with path.open("rb") as file:
                content = file.read(DOCUMENT_BYTES_MAX + 1)
        except OSError as error:
            self._note(Problem(shown, 0, 0, "", f"the file cannot be read: {error.strerror or error}"))
            return None
        self._digest.update(hashlib.sha256(content).digest())
        document, problems = read_yaml(shown, content, self._environ, SECRETS)
        for problem in problems:
            self._note(problem)
        if document is not None:
            self._reading.says(document)
        return document

    def _note(self, problem: Problem) -> None:
        self._report.problems[problem] = None

    def _include(self, main: Document, settings: GatewaySettings | None) -> None:
        """Read the other files. With problems in the main file, as far as its list of them can be read."""
        written = main.data.get("include") if isinstance(main.data, dict) else None
        self._unreadable |= settings is None and not isinstance(written, list)  # what is wrong with it is noted
        patterns = settings.include if settings is not None else written if isinstance(written, list) else []
        seen = {realpath(self._path)}  # not resolve(): it raises for a link that leads to itself
        for index, pattern in enumerate(patterns):
            if not isinstance(pattern, str) or not pattern:
                continue
            place = Place(main, ("include", index))
            found = self._reading.matches(self._pattern(pattern))
            if not found:
                self._unreadable = True
                self._report.add(place, f'no file matches "{pattern}" in {self._path.parent}')
            for path in found:
                if (real := realpath(path)) in seen:
                    continue
                if len(seen) > FILES_MAX:
                    self._report.add(place, f"too many files: at most {FILES_MAX}")
                    return
                seen.add(real)
                self._sort(self._read(path, str(path)))

    def _pattern(self, text: str) -> Pattern:
        absolute = Path(text)
        if not absolute.is_absolute():
            return Pattern(self._path.parent, text)
        return Pattern(Path(absolute.anchor), str(absolute.relative_to(absolute.anchor)))

    def _sort(self, document: Document | None) -> None:
        if document is None:
            self._unreadable = True
            return
        data = document.data if isinstance(document.data, dict) else {}
        kinds = [kind for key, kind in _TELLING.items() if key in data]
        if len(kinds) == 1:
            self._files[kinds[0]].append(document)
            return
        self._unreadable = True
        near = next(
            (
                f' (did you mean "{key}"?)'
                for name in data
                for key in _TELLING
                if nearest(name, [key]).startswith("; did")
            ),
            "",
        )
        message = (
            f"what kind of file is this? A product has product, the tiers have tiers, the prices price_lists{near}"
        )
        self._report.add(Place(document), message)

    def _single(self, kind: Kind, main: Document) -> Document | None:
        documents = self._files[kind]
        if not documents and not self._unreadable:
            self._report.add(
                Place(main, ("include",)), f"no file with {kind} is included: add config/{kind}.yaml", at_key=True
            )
        for document in documents[1:]:
            self._report.add(Place(document), f"there is another file with {kind}: {documents[0].file}")
        return documents[0] if documents else None

    # ---- compile

    def _compile(self, main: Document, settings: GatewaySettings | None) -> Runtime | None:
        tiers_document, prices_document = self._single("tiers", main), self._single("prices", main)
        scope = self._scope(main, prices_document)
        if settings is not None:
            self._place(main, settings, scope)
        errors = None if settings is None else compile_errors(settings.errors, Place(main, ("errors",)), scope)
        made = self._products(scope)
        plug_in = PlugIn() if settings is None else _plug_in(settings)
        check_reach((found for product in made for found in product.routes), (*OWN_PREFIXES, *plug_in.prefixes), scope)
        book = self._prices(prices_document, made, scope)
        tiers = None if tiers_document is None else self._checked(TiersSettings, tiers_document)
        plans: dict[str, Tier] = {}
        if tiers is not None and tiers_document is not None:
            products = {product.product.name: product.product for product in made}
            plans = compile_tiers(tiers, Place(tiers_document), products, scope)
            check_given(made, products_given(tiers), scope)
            if settings is not None:
                check_upgrades(settings.payments, Place(main, ("payments",)), plans, scope)
        if settings is None or errors is None or tiers is None or book is None or self._report.problems:
            return None
        redis, limits = settings.redis, settings.limits
        remembered = min(settings.idempotency.seconds, redis.operation_seconds)  # its holds' ends are asked for
        return Runtime(
            customers=Listener(host=settings.customers.host, port=settings.customers.port),
            customers_tls=_tls(settings.customers.tls),
            public_url=settings.customers.public_url,
            regions=settings.customers.regions,
            ops=Listener(host=settings.ops.host, port=settings.ops.port),
            ops_tls=_tls(settings.ops.tls),
            workers=settings.workers,
            redis=RedisSettings(**{**dict(redis), "directory": Path(redis.directory)}),
            spool_directory=Path(settings.spool_directory),
            admin_token=settings.admin_token,
            admin_tokens=tuple(AdminToken(**dict(token)) for token in settings.admin_tokens),
            key_pepper=settings.key_pepper,
            key_peppers_accepted=tuple(settings.key_peppers_accepted),
            trust_forwarded_for=settings.trust_forwarded_for,
            log_level=settings.log.level,
            limits=Limits(**dict(limits)),
            idempotency=Idempotency(**{**dict(settings.idempotency), "seconds": remembered}),
            outward=Outward(allow=tuple(settings.outward.allow), plain_http=settings.outward.plain_http),
            smtp=None if settings.alerts.smtp is None else Smtp(**dict(settings.alerts.smtp)),
            pages=Pages(**dict(settings.pages)),
            plug_in=plug_in,
            payments=compile_payments(settings.payments),
            exports=compile_exports(settings.export),
            tracing=None if settings.tracing is None else settings.tracing.compiled(),
            products={product.product.name: product.product for product in made},
            routes=tuple(route for product in made for route, _ in product.routes),
            tiers=plans,
            default_tier=tiers.default_tier,
            prices=book,
            default_errors=errors,
            digest=self._digest.hexdigest()[:16],
            reload_on_change=settings.reload_on_change,
            origins=self._reading.origins(),
        )

    def _scope(self, main: Document, prices: Document | None) -> Scope:
        """What names what, over all files."""
        documents = self._files["product"]
        if not documents and not self._unreadable:
            self._report.add(
                Place(main, ("include",)), "no product is included: add config/products/*.yaml", at_key=True
            )
        jobs = job_measures(documents)
        return Scope(
            report=self._report,
            complete=not self._unreadable,
            upstream_names=names_below(main, "upstreams"),
            products=product_names(documents),
            jobs=jobs,
            kinds={*jobs, *made_kinds(documents)},
            audio_kinds=frozenset(audio_kinds(documents)),
            sockets=products_with_sockets(documents),
            rate_cards=names_below(prices, "rate_cards"),
        )

    def _place(self, main: Document, settings: GatewaySettings, scope: Scope) -> None:
        """Where it listens, and where the services and their regions are."""
        if settings.ops.port and settings.ops.port == settings.customers.port and _meet(settings):
            self._report.add(
                Place(main, ("ops", "port")), f"customers have port {settings.ops.port} already: take another one"
            )
        scope.upstreams = compile_upstreams(settings.upstreams, Place(main, ("upstreams",)), scope)
        scope.regions = regions_of(scope.upstreams)
        for host, region in settings.customers.regions.items():
            scope.known(Place(main, ("customers", "regions", host)), region, scope.regions, "region")

    def _checked(self, model: type[_Model], document: Document) -> _Model | None:
        return checked(model, document, self._report, self._path.parent, self._reading)

    def _products(self, scope: Scope) -> list[Made]:
        read = [(document, self._checked(ProductSettings, document)) for document in self._files["product"]]
        files = [(document, settings) for document, settings in read if settings is not None]
        check_names(files, scope)
        scope.own_parameters = own_parameters(settings for _, settings in files)
        made = [compile_product(settings, Place(document), scope) for document, settings in files]
        for product in made:
            compile_jobs(product, scope)
        for product in made:
            compile_routes(product, jobs_of(made), scope)
        routes = [found for product in made for found in product.routes]
        check_routes(routes, scope)
        if len(made) == len(read):
            check_looks(made, Router([route for route, _ in routes]), scope)
        return made

    def _prices(self, document: Document | None, made: Sequence[Made], scope: Scope) -> PriceBook | None:
        prices = None if document is None else self._checked(PricesSettings, document)
        if prices is None or document is None:
            return None
        owners = owners_of(scope.metered)
        book = compile_prices(prices, Place(document), owners, scope)
        if len(made) == len(self._files["product"]) and not any(self._report.has_below(each.place) for each in made):
            check_spelling(prices, Place(document), owners, scope)
        check_priced(scope)
        for product in made:
            for route, place in product.routes:
                sample = product.settings.routes[int(place.path[-1])].sample
                if sample is not None:
                    check_sample(sample, route, place.at("sample"), scope)
        return book


def _plug_in(settings: GatewaySettings) -> PlugIn:
    return PlugIn(**{**dict(settings.plug_in), "trusted": tuple(settings.plug_in.trusted)})


def _meet(settings: GatewaySettings) -> bool:
    """Whether one of the listeners has the other's address."""
    hosts = {settings.customers.host, settings.ops.host}
    return len(hosts) == 1 or not hosts.isdisjoint({"0.0.0.0", "::"})  # noqa: S104 - the name of every address


def _tls(settings: TlsSettings | None) -> Tls | None:
    return None if settings is None else settings.compiled()
