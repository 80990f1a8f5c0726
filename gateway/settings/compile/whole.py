"""What is only wrong in the whole: names that are used twice, routes in each other's way or out of reach.

Owns: these checks. Does not know: how anything was compiled.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import combinations

from gateway.settings.compile.products import Made
from gateway.settings.compile.scope import Scope
from gateway.settings.jobs import Job
from gateway.settings.problems import Document, Place
from gateway.settings.routes import Route
from gateway.settings.routing import Match, Router, collide
from gateway.settings.schema.product import ProductSettings


def check_names(files: Iterable[tuple[Document, ProductSettings]], scope: Scope) -> None:
    """Products, jobs and routes have names of their own, over all files."""
    products: dict[str, Place] = {}
    jobs: dict[str, Place] = {}
    routes: dict[str, Place] = {}
    for document, settings in files:
        root = Place(document)
        _once(products, settings.product, root.at("product"), "product", scope)
        for kind in settings.jobs:
            _once(jobs, kind, root.at("jobs", kind), "job", scope)
        for index, route in enumerate(settings.routes):
            _once(routes, route.name, root.at("routes", index, "name"), "route", scope)


def _once(seen: dict[str, Place], name: str, place: Place, what: str, scope: Scope) -> None:
    first = seen.setdefault(name, place)
    if first is not place:
        at_key = isinstance(place.path[-1], str) and place.path[-1] == name
        scope.report.add(place, f'there is another {what} "{name}" at {first}', at_key=at_key)


def check_reach(routes: Iterable[tuple[Route, Place]], own: Collection[str], scope: Scope) -> None:
    """No route is where the gateway itself answers."""
    for route, place in routes:
        first = next(iter(route.segments), None)
        if route.product.forwarded and first is not None and f"/{first}" in own:
            message = f"this can never match: the gateway itself answers at /{first} and everywhere below it"
            scope.report.add(place.at("match"), message)


def check_routes(routes: Sequence[tuple[Route, Place]], scope: Scope) -> None:
    """No request has two routes of which neither is more specific."""
    for (one, first), (other, second) in combinations(routes, 2):
        if collide(one, other):
            place = first.at("match")
            message = f"this route and {one.name} at {place} match the same requests, and neither is more specific"
            scope.report.add(second.at("match"), message)


def check_looks(made: Iterable[Made], router: Router, scope: Scope) -> None:
    """The gateway asks for a job where clients do: at a GET route that reports it."""
    for product in made:
        if scope.report.has_below(product.place):
            continue  # the route may be among what is wrong
        for kind, job in product.jobs.items():
            found = router.match("GET", "", job.look.replace("{id}", "x"))
            if not (isinstance(found, Match) and found.route.reports is not None and found.route.reports.kind == kind):
                message = f"no GET route with reports: {kind} is at this path: the gateway asks where clients do"
                scope.report.add(product.place.at("jobs", kind, "look"), message)


def check_given(made: Iterable[Made], given: Collection[str], scope: Scope) -> None:
    """A product that no tier includes is out of reach, unless all of its routes are public."""
    for product in made:
        private = [route.name for route, _ in product.routes if not route.public]
        if product.product.name not in given and private:
            message = f"no tier includes this product, so nobody can reach {', '.join(private[:5])}"
            message += ", ...: add it to a tier" if len(private) > 5 else ": add it to a tier"
            scope.report.add(product.place.at("product"), message)


def jobs_of(made: Iterable[Made]) -> Mapping[str, Job]:
    """Every job, by kind."""
    return {kind: job for product in made for kind, job in product.jobs.items()}
