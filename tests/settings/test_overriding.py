"""What an override does to a plan."""

from dataclasses import replace

from gateway.core.admission import Concurrency, Rate, Scaling
from gateway.core.money import Nanos
from gateway.core.monthly import MonthlyGrant
from gateway.core.overrides import merged
from gateway.ports import Plan
from gateway.settings.overriding import overridden, tier_of
from gateway.settings.plans import Tier, TierProduct

SCALING = Scaling(quota_max=50)
TIER = Tier(
    name="free",
    title="Free",
    signup_grant=Nanos(0),
    rate_card="standard",
    overdraft=Nanos(7),
    rates=(Rate(name="account", quota=100, window_seconds=300),),
    products={
        "speech": TierProduct(concurrency=Concurrency(name="speech", limit=5, queued_max=9, when_negative=1)),
        "stream": TierProduct(rates=(Rate(name="stream", quota=5, window_seconds=60, scaling=SCALING),)),
        "llm": TierProduct(models=frozenset({"a"}), per_model=(Rate(name="llm", quota=2, window_seconds=60),)),
    },
)


def own(**overrides: str) -> Tier:
    """The tier of an account with these, `__` for the dot."""
    text = merged("", {name.replace("__", "."): value for name, value in overrides.items()})
    tier = tier_of({"free": TIER}, Plan(tier="free", overrides=text))
    assert tier is not None
    return tier


def test_without_overrides_it_is_the_plan_itself() -> None:
    """Nobody pays for what it does not have; a tier that the config does not have is none, whatever is over it."""
    assert tier_of({"free": TIER}, Plan(tier="free")) is TIER
    assert tier_of({}, Plan(tier="gone", overrides="overdraft=1")) is None


def test_what_is_named_stands_in_place_and_the_rest_stays() -> None:
    """Overdraft, the rate of all requests, places and the queue."""
    tier = own(overdraft="12", requests="9/60", speech__concurrency="400")
    assert (tier.overdraft, tier.rates) == (12, (Rate(name="account", quota=9, window_seconds=60),))
    assert tier.products["speech"].concurrency == Concurrency(name="speech", limit=400, queued_max=9, when_negative=1)
    assert tier.products["llm"] == TIER.products["llm"] and tier.rate_card == TIER.rate_card
    assert own(speech__queued_max="0", speech__when_negative="0").products["speech"].concurrency == Concurrency(
        name="speech", limit=5
    )


def test_a_monthly_grant_of_its_own() -> None:
    """One that the plan does not have, or none where the plan has one."""
    assert own(monthly_grant="5/30").monthly_grant == MonthlyGrant(amount=Nanos(5), days=30)
    assert overridden(replace(TIER, monthly_grant=MonthlyGrant(amount=Nanos(9))), "monthly_grant=none") == TIER


def test_a_limit_may_be_taken_away_or_made() -> None:
    """`none` is no limit, where the plan has one; where it has none, one is made."""
    tier = own(
        requests="none", requests_per_key="2/1", speech__concurrency="none", stream__requests="none",
        stream__concurrency="3",
    )  # fmt: skip
    assert tier.per_key == (Rate(name="key", quota=2, window_seconds=1),)
    assert tier.rates == () and tier.products["speech"].concurrency is None and tier.products["stream"].rates == ()
    assert tier.products["stream"].concurrency == Concurrency(name="stream", limit=3)


def test_a_quota_follows_its_use_as_the_plans_does() -> None:
    """By the plan's scaling, whose most is never less than the quota; by model where the plan counts so."""
    scaling = Scaling(quota_max=80)
    wanted = (Rate(name="stream", quota=80, window_seconds=10, scaling=scaling),)
    assert own(stream__requests="80/10").products["stream"].rates == wanted
    tier = own(llm__requests="7/60")
    assert tier.products["llm"].per_model == (Rate(name="llm", quota=7, window_seconds=60),)
    assert tier.products["llm"].rates == ()


def test_what_the_plan_does_not_have_can_be_included_and_the_reverse() -> None:
    """A limit alone includes nothing; what is taken out is out, whatever else is said of it."""
    tier = own(voice__included="yes", voice__concurrency="2", speech__included="no", speech__concurrency="9")
    assert tier.products.keys() == {"stream", "llm", "voice"}
    assert tier.products["voice"] == TierProduct(concurrency=Concurrency(name="voice", limit=2))
    assert own(voice__concurrency="2").products.keys() == TIER.products.keys()
    assert own(llm__models="a,b").products["llm"].models == frozenset({"a", "b"})
    assert own(llm__models="all").products["llm"].models is None
