"""The link to a primary that sentinels name: who it is, is asked anew for every connection.

Owns: the URL of sentinels, the question and its answer.
Does not know: replies, repeats, deadlines (single). After a failover the connection breaks, or the old primary says
READONLY; either way the next connection goes to whom the sentinels name then.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import unquote, urlsplit

import hiredis

from gateway.ledger.address import Address
from gateway.ledger.connection import Gate, pack
from gateway.ledger.link import LinkSettings
from gateway.ledger.single import SingleLink

SENTINEL_PORT: Final = 26379
_SCHEMES: Final = {"redis+sentinel": "redis", "rediss+sentinel": "rediss"}
_ANSWER_BYTES: Final = 4096


def is_sentinel(url: str) -> bool:
    """Does the URL name sentinels (`redis+sentinel://` or `rediss+sentinel://`)?"""
    return urlsplit(url).scheme in _SCHEMES


@dataclass(frozen=True, slots=True)
class Sentinels:
    """Where the sentinels are, and what they are asked for. `password` is for themselves, not for the primary."""

    places: Sequence[tuple[str, int]]
    service: str
    primary: Address  # all but the host and port
    password: str = field(default="", repr=False)

    @classmethod
    def parse(cls, url: str) -> "Sentinels":
        """Read `redis+sentinel://[user:pass@]host[:26379][,host...]/service[/db][?sentinel_password=...]`.

        User and password are the primary's. Raises ValueError, never naming a password, or OSError (a PEM file).
        """
        parts = urlsplit(url)
        credentials, at, hosts = parts.netloc.rpartition("@")
        service, _, db = parts.path.removeprefix("/").partition("/")
        if not service:
            raise ValueError(
                "redis url: name the service that the sentinels watch: redis+sentinel://host:26379/service"
            )
        options = [option for option in parts.query.split("&") if option]
        password = next((option.partition("=")[2] for option in options if option.startswith("sentinel_password=")), "")
        query = "&".join(option for option in options if not option.startswith("sentinel_password="))
        scheme = _SCHEMES[parts.scheme]
        primary = Address.parse(f"{scheme}://{credentials}{at}primary/{db}{'?' if query else ''}{query}")
        return cls(
            places=[_place(host) for host in hosts.split(",")],
            service=unquote(service),
            primary=primary,
            password=unquote(password),
        )

    @property
    def where(self) -> str:
        """The service, as a person may read it."""
        return f"sentinel service {self.service}"

    async def find(self) -> Address:
        """The primary now: the first answer of any sentinel. OSError if none knows it. The caller bounds the time."""
        why: OSError | None = None
        asked = [asyncio.create_task(self._ask(*place)) for place in self.places]
        try:
            for answer in asyncio.as_completed(asked):
                try:
                    host, port = await answer
                except OSError as error:
                    why = error
                else:
                    return replace(self.primary, host=host, port=port)
            raise OSError(f"no sentinel knows the primary of {self.service}: {why}")
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    async def _ask(self, host: str, port: int) -> tuple[str, int]:
        reader, writer = await asyncio.open_connection(host, port, ssl=self.primary.tls)
        try:
            if self.password:
                writer.write(pack(("AUTH", self.password)))
            writer.write(pack(("SENTINEL", "get-master-addr-by-name", self.service)))
            answers = hiredis.Reader()
            answer: object = None
            for _ in range(1 + bool(self.password)):
                while (answer := answers.gets()) is False:
                    chunk = await reader.read(_ANSWER_BYTES)
                    if not chunk:
                        raise ConnectionResetError("a sentinel closed the connection")
                    answers.feed(chunk)
                if isinstance(answer, Exception):
                    raise OSError(f"a sentinel answered: {answer}")
        except hiredis.ProtocolError as error:
            raise OSError(f"not a sentinel: {error}") from None
        finally:
            writer.close()
        if not isinstance(answer, list) or len(answer) != 2:
            raise OSError("a sentinel does not know the service")
        found, its_port = (part.decode() for part in answer)
        return found, int(its_port)


def _place(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":") if text.rpartition(":")[2].isdecimal() else (text, "", "")
    if not host:
        raise ValueError("redis url: a sentinel has a host: redis+sentinel://host:26379/service")
    return host.strip("[]"), int(port) if port else SENTINEL_PORT


class SentinelLink(SingleLink):
    """A `RedisLink` to the primary that sentinels name."""

    def __init__(self, settings: LinkSettings, gate: Gate | None = None) -> None:
        self._sentinels = Sentinels.parse(settings.url)
        super().__init__(settings, gate, address=self._sentinels.primary)

    @property
    def where(self) -> str:
        return self._sentinels.where

    async def _locate(self) -> Address:
        return await self._sentinels.find()
