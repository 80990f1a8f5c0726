"""docs/reference/configuration.md has every key of every file, as the schema has it."""

import re
from typing import Any

import pytest
import yaml
from pydantic_core import PydanticUndefined

from gateway.settings.schema.alerts import AlertsSettings, SmtpSettings
from gateway.settings.schema.base import Settings
from gateway.settings.schema.callback import CallbackSettings
from gateway.settings.schema.checked import models_in
from gateway.settings.schema.errors import ErrorsSettings, WordingSettings
from gateway.settings.schema.exports import (
    CloudEventsSettings,
    ExportSettings,
    JsonlSettings,
    KafkaSettings,
    PostgresSettings,
)
from gateway.settings.schema.gateway import (
    AdminTokenSettings,
    GatewaySettings,
    LogSettings,
    OutwardSettings,
    PagesSettings,
    PlugInSettings,
    RedisYaml,
)
from gateway.settings.schema.job import JobSettings
from gateway.settings.schema.limits import IdempotencySettings, LimitsSettings
from gateway.settings.schema.listeners import CustomersListenerSettings, OpsListenerSettings, TlsSettings
from gateway.settings.schema.metering import (
    ChargeSettings,
    ConditionSettings,
    EstimateSettings,
    HoldSettings,
    MeasureSettings,
    SampleSettings,
)
from gateway.settings.schema.payments import AutopaySettings, BillingSystemSettings, PaymentsSettings, StripeSettings
from gateway.settings.schema.plans import (
    MonthlyGrantSettings,
    PriceListSettings,
    PriceSettings,
    PricesSettings,
    ProductRequestsSettings,
    RateCardSettings,
    RequestsSettings,
    ScalingSettings,
    StepSettings,
    TierProductSettings,
    TierSettings,
    TiersSettings,
    WhenNegativeSettings,
)
from gateway.settings.schema.product import LedgerAwaySettings, ModelsSettings, ProductSettings
from gateway.settings.schema.queue import QueueSettings
from gateway.settings.schema.route import (
    CreationSettings,
    InjectionSettings,
    ListingSettings,
    RejectionSettings,
    RequirementSettings,
    RouteSettings,
)
from gateway.settings.schema.session import (
    FrameRefusalsSettings,
    FramesSettings,
    FrameWordingSettings,
    JudgedSettings,
    MintSettings,
    RefusingSettings,
    SessionSettings,
)
from gateway.settings.schema.stream import DropsSettings, StreamSettings
from gateway.settings.schema.tracing import OtlpSettings, TracingSettings
from gateway.settings.schema.upstream import EjectionSettings, EndpointSettings, HealthSettings, UpstreamSettings
from tests.settings.project import ROOT

DOCUMENT = ROOT / "docs" / "reference" / "configuration.md"

#: The sections of the document, in their order: heading and model.
SECTIONS: dict[str, list[tuple[str, type[Settings]]]] = {
    "gateway.yaml": [
        ("", GatewaySettings),
        ("customers", CustomersListenerSettings),
        ("customers.tls", TlsSettings),
        ("ops", OpsListenerSettings),
        ("redis", RedisYaml),
        ("admin_tokens[]", AdminTokenSettings),
        ("log", LogSettings),
        ("limits", LimitsSettings),
        ("idempotency", IdempotencySettings),
        ("outward", OutwardSettings),
        ("alerts", AlertsSettings),
        ("alerts.smtp", SmtpSettings),
        ("pages", PagesSettings),
        ("plug_in", PlugInSettings),
        ("export", ExportSettings),
        ("export.postgres", PostgresSettings),
        ("export.jsonl", JsonlSettings),
        ("export.cloudevents", CloudEventsSettings),
        ("export.kafka", KafkaSettings),
        ("tracing", TracingSettings),
        ("tracing.otlp", OtlpSettings),
        ("payments", PaymentsSettings),
        ("payments.autopay", AutopaySettings),
        ("payments.stripe", StripeSettings),
        ("payments.webhook", BillingSystemSettings),
        ("upstreams.NAME", UpstreamSettings),
        ("upstreams.NAME.endpoints.NAME", EndpointSettings),
        ("upstreams.NAME.ejection", EjectionSettings),
        ("upstreams.NAME.health", HealthSettings),
    ],
    "config/products/*.yaml": [
        ("", ProductSettings),
        ("errors", ErrorsSettings),
        ("errors.codes.CODE", WordingSettings),
        ("models", ModelsSettings),
        ("on_ledger_unavailable", LedgerAwaySettings),
        ("jobs.KIND", JobSettings),
        ("jobs.KIND.queue", QueueSettings),
        ("jobs.KIND.callback", CallbackSettings),
        ("routes[]", RouteSettings),
        ("routes[].requires[]", RequirementSettings),
        ("routes[].requires[].injected", InjectionSettings),
        ("routes[].creates", CreationSettings),
        ("routes[].lists", ListingSettings),
        ("routes[].stream", StreamSettings),
        ("routes[].stream.drops", DropsSettings),
        ("routes[].rejects[]", RejectionSettings),
        ("routes[].hold", HoldSettings),
        ("routes[].session", SessionSettings),
        ("routes[].session.frames", FramesSettings),
        ("routes[].session.frames.refuses_us[]", RefusingSettings),
        ("routes[].session.frames.judged[]", JudgedSettings),
        ("routes[].session.refusals", FrameRefusalsSettings),
        (
            "routes[].session.refusals.codes.CODE, routes[].session.frames.judged[].refusal",
            FrameWordingSettings,
        ),
        ("routes[].mints", MintSettings),
        ("usage.MEASURE", MeasureSettings),
        ("usage.MEASURE.estimate", EstimateSettings),
        ("charges[]", ChargeSettings),
        ("charges[].when", ConditionSettings),
        ("routes[].sample", SampleSettings),
    ],
    "config/tiers.yaml": [
        ("", TiersSettings),
        ("tiers.NAME", TierSettings),
        ("tiers.NAME.monthly_grant", MonthlyGrantSettings),
        ("tiers.NAME.requests", RequestsSettings),
        ("tiers.NAME.products.PRODUCT", TierProductSettings),
        ("tiers.NAME.products.PRODUCT.when_negative", WhenNegativeSettings),
        ("tiers.NAME.products.PRODUCT.requests", ProductRequestsSettings),
        ("tiers.NAME.products.PRODUCT.requests.scaling", ScalingSettings),
    ],
    "config/prices.yaml": [
        ("", PricesSettings),
        ("price_lists[]", PriceListSettings),
        ("price_lists[].prices.SKU, rate_cards.NAME.overrides.SKU", PriceSettings),
        ("rate_cards.NAME", RateCardSettings),
        ("rate_cards.NAME.steps.SKU[]", StepSettings),
    ],
}


def default_of(info: Any) -> str:
    """How the document shows a default."""
    extra = info.json_schema_extra
    if extra["shown"] is not None:
        return str(extra["shown"])
    if info.default_factory is not None:
        return "see below"
    if info.default is PydanticUndefined:
        return "**required**"
    if isinstance(info.default, bool):
        return f"`{str(info.default).lower()}`"
    number = f"{info.default:g}" if isinstance(info.default, float) else str(info.default)
    return f"`{number}`"


def table(model: type[Settings]) -> str:
    """The table of a model's keys."""
    rows = ["| key | meaning | unit | default |", "|---|---|---|---|"]
    for name, info in model.model_fields.items():
        extra: Any = info.json_schema_extra
        meaning = (info.description or "").replace("|", "\\|")
        rows.append(f"| `{info.alias or name}` | {meaning} | {extra['unit']} | {default_of(info)} |")
    return "\n".join(rows)


def heading(name: str) -> str:
    """The heading of a section within a file's chapter."""
    return "### " + ", ".join(f"`{part}`" for part in name.split(", "))


@pytest.mark.parametrize("file", SECTIONS)
def test_every_key_is_documented(file: str) -> None:
    """Each section has its heading and exactly the keys, units and defaults of the schema, in the schema's order."""
    text = DOCUMENT.read_text()
    _, found, chapter = text.partition(f"\n## `{file}`\n")
    assert found, f"there is no chapter on {file}"
    chapter = chapter.partition("\n## ")[0]
    for name, model in SECTIONS[file]:
        if name:
            _, found, section = chapter.partition(f"\n{heading(name)}\n")
            assert found, f"there is no section {heading(name)} in the chapter on {file}"
        else:
            section = chapter
        section = section.partition("\n### ")[0]
        assert table(model) in section, f"the table of {heading(name)} should be:\n{table(model)}"


def test_every_mapping_is_documented() -> None:
    """No model of the schema is left out."""
    documented = {model for sections in SECTIONS.values() for _, model in sections}
    found: set[type] = set()
    waiting: list[Any] = [GatewaySettings, ProductSettings, TiersSettings, PricesSettings]
    while waiting:
        model = waiting.pop()
        if model not in found:
            found.add(model)
            waiting += [below for info in model.model_fields.values() for below in models_in(info.annotation)]
    assert found - documented == set()


def test_every_key_says_what_it_means() -> None:
    """Each key has a meaning, and each number with a unit in its name has that unit."""
    for sections in SECTIONS.values():
        for _, model in sections:
            for name, info in model.model_fields.items():
                assert info.description, f"{model.__name__}.{name}"
                extra: Any = info.json_schema_extra
                for unit in ("seconds", "bytes"):
                    if name.endswith((unit, f"{unit}_max")):
                        assert extra["unit"] == unit, f"{model.__name__}.{name}"


#: What each block of docs/concepts/sessions.md is an example of, by its first key.
EXAMPLES: dict[str, type[Settings]] = {
    "session": SessionSettings,
    "usage": RouteSettings,
    "frames": FramesSettings,
    "refusals": FrameRefusalsSettings,
    "name": RouteSettings,
}


def test_the_examples_of_sessions_are_config() -> None:
    """Every block of YAML is read by the schema as it stands."""
    text = (ROOT / "docs" / "concepts" / "sessions.md").read_text()
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
    assert len(blocks) == len(EXAMPLES)
    for block in blocks:
        example = block[0] if isinstance(block, list) else block
        first = next(iter(example))
        if first == "usage":
            example = {"name": "x", "match": "GET /x", **example}
        elif first != "name":
            example = example[first]
        EXAMPLES[first].model_validate(example)


def test_the_example_of_jobs_is_the_shipped_config() -> None:
    """The block of docs/concepts/jobs.md says what the product's file says, or the default."""
    text = (ROOT / "docs" / "concepts" / "jobs.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    shipped = yaml.safe_load((ROOT / "config" / "products" / "speech-to-text.yaml").read_text())["jobs"]["transcript"]
    settings = JobSettings.model_validate(shipped)
    example = JobSettings.model_validate({**shipped, **yaml.safe_load(block)["jobs"]["transcript"]})
    assert example == settings
