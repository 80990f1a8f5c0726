"""Which headers pass, in both directions."""

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.upstream.headers import reply_headers, request_headers

OURS = {"Authorization": "service", "X-Account-Id": "a", "X-Call-Id": "c", "X-Forwarded-For": "1.2.3.4"}


def passed(*fields: tuple[str, str], decodable_only: bool = False, credential: str = "Authorization") -> list[str]:
    """What of a client's fields an upstream gets, beside ours."""
    ours = {credential: "service", **{name: value for name, value in OURS.items() if name != "Authorization"}}
    headers = request_headers(
        CIMultiDictProxy(CIMultiDict(fields)), ours=ours, credential_header=credential, decodable_only=decodable_only
    )
    for name, value in ours.items():
        assert headers.getall(name) == [value]
    return [f"{name}: {value}" for name, value in headers.items() if name not in ours]


def returned(*fields: tuple[str, str]) -> list[str]:
    """What of an upstream's fields a client gets."""
    return [f"{name}: {value}" for name, value in reply_headers(CIMultiDictProxy(CIMultiDict(fields))).items()]


HOP_BY_HOP = (
    "Connection",
    "Keep-Alive",
    "Proxy-Authenticate",
    "Proxy-Authorization",
    "Proxy-Connection",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
)


@pytest.mark.parametrize("name", HOP_BY_HOP)
@pytest.mark.parametrize("spelled", [str.lower, str.upper, str.title])
def test_hop_by_hop_fields_pass_in_neither_direction(name: str, spelled: object) -> None:
    """However they are spelled."""
    assert callable(spelled)
    assert passed((spelled(name), "x"), ("X-Kept", "1")) == ["X-Kept: 1"]
    assert returned((spelled(name), "x"), ("X-Kept", "1")) == ["X-Kept: 1"]


def test_what_connection_names_is_hop_by_hop_as_well() -> None:
    """Several fields, several names in each, any case, empty names."""
    fields = (
        ("Connection", "close, X-One"),
        ("connection", " x-TWO ,,"),
        ("X-One", "1"),
        ("x-one", "1"),
        ("X-Two", "2"),
        ("X-Three", "3"),
    )
    assert passed(*fields) == ["X-Three: 3"]
    assert returned(*fields) == ["X-Three: 3"]


def test_connection_cannot_take_away_what_is_ours() -> None:
    """A client that names our fields as hop-by-hop does not get a call through without them."""
    assert passed(("Connection", "Authorization, X-Account-Id, X-Call-Id, X-Forwarded-For")) == []


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "X-Api-Key",
        "X-Account-Id",
        "X-Call-Id",
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "X-Forwarded-Anything",
        "X-Real-IP",
        "Forwarded",
        "Host",
        "Expect",
        "Content-Length",
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
        "X-Original-URL",
        "X-Rewrite-URL",
        "OpenAI-Organization",
        "OpenAI-Project",
        "X-Goog-User-Project",
        "X-Gateway-Charge",
        "X-Gateway-Anything",
    ],
)
@pytest.mark.parametrize("spelled", [str.lower, str.upper, str.title, lambda name: name.replace("-", "_")])
def test_what_only_the_gateway_may_say_never_comes_from_a_client(name: str, spelled: object) -> None:
    """Also twice, in any case, and with the underscores that some servers read as dashes."""
    assert callable(spelled)
    if "_" in spelled(name) and "-" not in name:
        pytest.skip("it has no dash")
    assert passed((spelled(name), "forged"), ("X-Kept", "1"), (spelled(name).swapcase(), "forged")) == ["X-Kept: 1"]


def test_a_service_with_its_own_credential_header_gets_neither_of_the_customers() -> None:
    """Our credential goes into the header that the upstream wants, and `Authorization` stays away."""
    fields = (("Authorization", "mine"), ("xi-api-key", "mine"), ("X-Api-Key", "mine"))
    assert passed(*fields, credential="xi-api-key") == []


@pytest.mark.parametrize("credential", ["Its-Own-Key", "its_own_key"])
def test_the_credential_of_a_service_is_sent_once(credential: str) -> None:
    """Whatever header it is sent in, no spelling of that comes from a client as well."""
    fields = [(name, "mine") for name in ("Its-Own-Key", "ITS_OWN_KEY", "its-own_key")]
    assert passed(*fields, ("Its-Own", "1"), credential=credential) == ["Its-Own: 1"]


def test_other_fields_pass_in_their_order_and_as_often_as_sent() -> None:
    """Names keep their spelling, values their bytes."""
    fields = (("X-b", "2"), ("x-B", "1"), ("Cookie", "c=1"), ("Accept", "*/*"), ("X-Odd", "\udce9\u00e9"))
    assert passed(*fields) == [f"{name}: {value}" for name, value in fields]
    assert returned(*fields) == [f"{name}: {value}" for name, value in fields]


@pytest.mark.parametrize("name", ["RateLimit", "RateLimit-Policy", "X-RateLimit-Limit", "Server", "X-Gateway-Charge"])
def test_an_upstream_does_not_speak_for_the_gateway(name: str) -> None:
    """Its limits are those of the service's account."""
    assert returned((name, "x"), (name.lower(), "x"), ("X-Kept", "1")) == ["X-Kept: 1"]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("gzip, br, zstd", "gzip"),
        ("br;q=1.0, gzip;q=0.8, deflate", "gzip;q=0.8, deflate"),
        ("br", "identity"),
        ("*", "identity"),
        ("", "identity"),
        ("GZIP", "GZIP"),
    ],
)
def test_where_the_reply_is_read_only_decodable_encodings_are_offered(sent: str, kept: str) -> None:
    """Else the usage could not be read."""
    assert passed(("Accept-Encoding", sent), decodable_only=True) == [f"Accept-Encoding: {kept}"]
    assert passed(("Accept-Encoding", sent)) == [f"Accept-Encoding: {sent}"]


def test_several_accept_encoding_fields_are_one_offer() -> None:
    """A second field does not slip through."""
    fields = (("Accept-Encoding", "gzip"), ("accept-encoding", "br"))
    assert passed(*fields, decodable_only=True) == ["Accept-Encoding: gzip"]


def test_where_the_reply_is_read_no_part_of_it_can_be_asked_for() -> None:
    """Half a reply reports nothing, and half a result is still a result."""
    fields = (("Range", "bytes=5-"), ("If-Range", '"x"'), ("X-Kept", "1"))
    assert passed(*fields, decodable_only=True) == ["X-Kept: 1"]
    assert passed(*fields) == ["Range: bytes=5-", 'If-Range: "x"', "X-Kept: 1"]
