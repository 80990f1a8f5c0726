"""A price file that is not in force: compiled as the config's own would be, to see what it would cost.

Owns: reading it, and telling what is wrong with it. Does not know: what it is compared with.
"""

from typing import Final

from gateway.settings.compile.prices import compile_prices
from gateway.settings.compile.scope import Scope
from gateway.settings.overview import owners
from gateway.settings.plans import PriceBook
from gateway.settings.problems import Place, Problem, Report, SettingsError
from gateway.settings.runtime import Runtime
from gateway.settings.schema.checked import checked
from gateway.settings.schema.plans import PricesSettings
from gateway.settings.yaml import read_yaml

#: What it is called in problems, whoever sent it.
_NAME: Final = "prices.yaml"


def proposed_prices(content: bytes, runtime: Runtime) -> PriceBook:
    """Every table of the file. Discounts are of the config's products. Raises SettingsError with all problems."""
    document, problems = read_yaml(_NAME, content, {}, frozenset())
    report = Report(dict.fromkeys(problems))
    settings = None if document is None else checked(PricesSettings, document, report, runtime.spool_directory)
    book = None
    if settings is not None and document is not None:
        scope = Scope(report=report, products=runtime.products, rate_cards=settings.rate_cards)
        book = compile_prices(settings, Place(document), owners(runtime), scope)
    if book is None or report.problems:
        raise SettingsError(report.problems or [Problem(_NAME, 0, 0, "", "this is no price file")])
    return book
