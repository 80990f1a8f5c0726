"""The services behind the gateway, compiled: where each is, or which endpoints it has.

Owns: the shape of a service and of its endpoints, and narrowing one to some of them.
Does not know: which is asked (core.endpoints), or why one may not be (pipeline.placing).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from gateway.core.endpoints import Ejection

#: What a service answers that does not take our own credential, or where our own account has no credit. The customer's
#: key is good, or nothing would have been asked.
REFUSES_US: Final = frozenset({401, 402})


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How endpoints are asked whether they are well: GET `path`, below 400 is. So many times in a row change it."""

    path: str
    every_seconds: float
    seconds_max: float
    failures: int
    successes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """A service that calls are forwarded to. `base_url` has no slash at its end. Times in seconds.

    `credential` is sent as the value of `credential_header`, in place of the customer's.
    A service has one place, or several `endpoints`, which are Upstreams themselves: `endpoint` is one's name among
    them, and new work is given to each by its `weight`, unless it is to `drain`. `key`: for whom one is chosen, always
    the same one; empty is each call for itself.
    """

    name: str
    base_url: str
    credential_header: str = "Authorization"
    credential: str = field(repr=False)
    connect_seconds_max: float = 5.0
    reply_seconds_max: float = 60.0  # from the end of the request to the head of the reply, and between body chunks
    total_seconds_max: float = 600.0
    connections_max: int = 0  # 0: no limit
    looks_per_second_max: float = 10.0  # of one worker, at jobs that nobody asks for; and at once:
    looks_max: int = 10
    verify_tls: bool = True
    region: str = ""
    endpoints: tuple["Upstream", ...] = ()
    endpoint: str = ""
    weight: int = 1
    drain: bool = False
    sticky: Literal["call", "account"] = "call"
    retry_on: frozenset[int] = frozenset()
    ejection: Ejection = field(default_factory=Ejection)
    health: Health | None = None
    key: str = ""

    @property
    def service(self) -> str:
        """The name of the service that an endpoint is one of."""
        return self.name.removesuffix(f"/{self.endpoint}")

    @property
    def places(self) -> tuple["Upstream", ...]:
        """Where the service is: its endpoints, or itself."""
        return self.endpoints or (self,)

    def at(self, endpoint: str) -> "Upstream | None":
        """The place of what was made at this endpoint; without a name, at the first. None: it is there no more."""
        if not endpoint:
            return self.places[0]
        return next((place for place in self.endpoints if place.endpoint == endpoint), None)

    def only(self, endpoints: Iterable["Upstream"], key: str = "") -> "Upstream":
        """The service with some of its endpoints, for whoever asks by this key."""
        return replace(self, endpoints=tuple(endpoints), key=key)
