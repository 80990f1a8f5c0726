"""Visits, attempts and signed texts: what a cookie is worth, and how often one may guess."""

from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from gateway.edge.attempts import OF_ADDRESS_MAX, OF_ALL_MAX, Attempts, neighbourhood
from gateway.edge.pages.visits import Visit, Visits
from gateway.edge.signed import read_signed, write_signed


class Clock:
    """A clock that a test moves."""

    seconds = 1_800_000_000.0

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds


def visits(clock: Clock, *, secret: str = "s", site: str = "billing", secure: bool = False) -> Visits:
    return Visits(secret=secret, site=site, path="/billing", secure=secure, seconds=600, clock=clock)


def shown(cookie: str, *, site: str = "billing") -> web.Request:
    """A request that shows this cookie."""
    return make_mocked_request("GET", "/billing", headers={"Cookie": f"gateway_{site}={cookie}"})


def cookie_of(site: Visits, visit: Visit) -> str:
    """What a browser keeps of a visit."""
    response = web.Response()
    site.keep(visit, response)
    (morsel,) = response.cookies.values()
    return str(morsel.value)


def test_a_visit_is_itself_again_until_its_time_is_over() -> None:
    """The cookie tells who it is; a second after its time it is nobody's."""
    clock = Clock()
    site = visits(clock)
    visit = site.begin("acme", "key-1")
    cookie = cookie_of(site, visit)
    clock.seconds += 599
    assert site.of(shown(cookie)) == visit
    clock.seconds += 1
    assert site.of(shown(cookie)).who == ""


def test_a_cookie_of_another_make_is_nobodys() -> None:
    """Of another secret or another site, changed, cut, or far too long: a new visit of nobody."""
    clock = Clock()
    site = visits(clock)
    good = cookie_of(site, site.begin("acme", "key-1"))
    others = (
        cookie_of(visits(clock, secret="other"), site.begin("acme", "key-1")),
        cookie_of(visits(clock, site="ops"), site.begin("acme", "key-1")),
        good[:-1], good[1:], good.replace(".", ""), "A" + good, "é", "", ".", "." * 2000, "A" * 100_000,
    )  # fmt: skip
    for cookie in others:
        assert site.of(shown(cookie)).who == ""
    assert site.of(shown(good)).who == "acme"


def test_the_cookie_is_the_browsers_alone() -> None:
    """No script reads it, no other site's form carries it; over https only, where that is spoken."""
    for secure in (False, True):
        site = visits(Clock(), secure=secure)
        response = web.Response()
        site.keep(site.begin("acme", "key-1"), response)
        written = response.cookies.output(header="")
        assert "HttpOnly" in written
        assert "SameSite=Lax" in written
        assert "Path=/billing" in written
        assert "Max-Age=600" in written
        assert ("Secure" in written) == secure


def test_a_form_belongs_to_one_visit() -> None:
    """The token of one visit is no other's, and no token is none."""
    site = visits(Clock())
    mine, theirs = site.begin("acme", "k"), site.begin("acme", "k")
    assert site.is_form_of(mine, site.form_token(mine))
    for token in (site.form_token(theirs), "", "\udcff", site.form_token(mine)[:-1]):
        assert not site.is_form_of(mine, token)


def test_a_text_of_one_purpose_is_nothing_for_another() -> None:
    """Signed texts are told apart by secret and purpose."""
    text = write_signed("s", "a", b"data")
    assert read_signed("s", "a", text) == b"data"
    assert [read_signed("s", "b", text), read_signed("t", "a", text), read_signed("s", "a", "x")] == [None] * 3


def test_guesses_of_one_address_are_slowed_down() -> None:
    """Ten a minute, then it waits until the minute is over; others do not, and who succeeds is not counted."""
    clock = Clock()
    attempts = Attempts(clock)
    for _ in range(100):
        assert attempts.begin("192.0.2.7") == 0
        attempts.take_back("192.0.2.7")
    assert [attempts.begin("192.0.2.7") for _ in range(OF_ADDRESS_MAX)] == [0] * OF_ADDRESS_MAX
    clock.seconds += 20
    assert attempts.begin("192.0.2.7") == 40
    assert attempts.begin("192.0.2.8") == 0
    clock.seconds += 40
    assert attempts.begin("192.0.2.7") == 0


def test_guesses_of_all_together_are_slowed_down_and_memory_is_bounded() -> None:
    """Whoever has a million addresses gets no further than the limit of all."""
    attempts = Attempts(Clock())
    let = sum(attempts.begin(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}") == 0 for n in range(20_000))
    assert let == OF_ALL_MAX
    assert len(attempts._counts) <= OF_ALL_MAX


def test_a_holder_of_many_addresses_is_one() -> None:
    """All of a /64 is one neighbourhood, an IPv4 address is itself in any dress, and nonsense is all one."""
    assert neighbourhood("2001:db8:1:2::1") == neighbourhood("2001:db8:1:2:ffff::9") != neighbourhood("2001:db8:1:3::1")
    assert neighbourhood("::ffff:192.0.2.7") == neighbourhood("192.0.2.7") == "192.0.2.7"
    assert neighbourhood("nonsense") == neighbourhood("") == ""
