"""What is shipped to run a gateway with: the image's instructions, the config in it, and what the config asks for."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml

from gateway.settings.load import load
from gateway.settings.runtime import Runtime

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CONFIG = DEPLOY / "gateway.yaml"
#: Beyond what calls may take at the end: settling those that were cut.
SETTLING_SECONDS = 60
#: What a place must tell, and what it may tell.
NEEDED = {
    "REDIS_URL": "redis://redis:6379/0",
    "DATABASE_URL": "postgresql://gateway:password@postgres:5432/ledger",
    "GATEWAY_ADMIN_TOKEN": "an-admin-token-of-a-test",
    "GATEWAY_KEY_PEPPER": "a-key-pepper-of-a-test",
    "UPSTREAM_CREDENTIAL": "sandbox-service-key",
}
ASKED = set(re.findall(r"\$\{([A-Z_]+)", CONFIG.read_text()))


@dataclass(frozen=True)
class Instruction:
    """One of the Dockerfile, on one line."""

    word: str
    rest: str

    @property
    def words(self) -> list[str]:
        """What follows, as a list: JSON's, or a shell's."""
        found: list[str] = orjson.loads(self.rest) if self.rest.startswith("[") else shlex.split(self.rest)
        return found


def dockerfile() -> list[list[Instruction]]:
    """The instructions of each stage."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
    stages: list[list[Instruction]] = []
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        word, _, rest = line.partition(" ")
        if word == "FROM":
            stages.append([])
        if stages:
            stages[-1].append(Instruction(word, rest))
    return stages


def last(word: str) -> Instruction:
    """The instruction of the image that is shipped which has the last say."""
    return [each for each in dockerfile()[-1] if each.word == word][-1]


def read(path: str) -> Any:
    """A file of `deploy/`, as YAML."""
    return yaml.safe_load((DEPLOY / path).read_text())


def laid_out(directory: Path) -> Path:
    """The config as the image has it: beside `config/`."""
    (directory / "gateway.yaml").write_text(CONFIG.read_text())
    (directory / "config").symlink_to(ROOT / "config")
    return directory / "gateway.yaml"


def runtime(directory: Path, **environment: str) -> Runtime:
    """What the config makes in a place that tells what is needed, and this."""
    return load(laid_out(directory), {**NEEDED, **environment})
