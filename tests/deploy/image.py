"""`make image-steps`: the image without a container engine.

Runs the build's steps as they stand in the Dockerfile, as commands, with the image's paths below a directory of ours;
lays out the rest; and then runs what the image runs: its check, its server on a real Redis, its health check, its end.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gateway.ledger.embedded import EmbeddedRedis
from tests.deploy.shipped import NEEDED, ROOT, Instruction, dockerfile, last
from tests.ports import free_ports

READY_SECONDS_MAX = 60


class Image:
    """The root of an image, as far as commands can make it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.where = root
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(root)}
        kept = ("PIP_", "SSL_", "HTTP", "http", "NO_PROXY", "no_proxy")  # how this machine reaches its packages
        self.outside = {name: value for name, value in os.environ.items() if name.startswith(kept)}

    def here(self, text: str) -> str:
        """The image's paths as they are with us."""
        for path in ("/opt/gateway", "/etc/gateway", "/var/lib/gateway"):
            text = text.replace(path, f"{self.root}{path}")
        return text

    def build(self, stage: list[Instruction]) -> None:
        """Do what a stage says; what needs another user is left out."""
        for each in stage:
            if each.word == "WORKDIR":
                self.where = Path(self.root / each.rest.lstrip("/"))
                self.where.mkdir(parents=True, exist_ok=True)
            elif each.word == "RUN" and "useradd" not in each.rest:
                command = self.here(each.rest).replace("python -m venv", f"{sys.executable} -m venv")
                self.run("sh", "-c", command)
            elif each.word == "COPY" and "--from" not in each.rest:
                *sources, target = each.words
                for source in sources:
                    self._copy(ROOT / source, Path(self.here(target)), single=len(sources) == 1)

    def _copy(self, source: Path, target: Path, *, single: bool) -> None:
        target = self.where / target
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            return
        target = target if single else target / source.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)

    def run(self, *command: str) -> str:
        """A command of the image, which must succeed; its output."""
        done = subprocess.run(
            command, cwd=self.where, env=self.environment | self.outside, check=False, capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout


def main() -> None:
    """Build it, then run it."""
    with tempfile.TemporaryDirectory() as directory:
        image = Image(Path(directory))
        for stage in dockerfile():
            image.build(stage)
        shutil.rmtree(image.root / "src")  # nothing may depend on where it was built
        for each in last("ENV").words:
            name, _, value = each.partition("=")
            image.environment[name] = image.here(value).replace("$PATH", image.environment["PATH"])
        _serve(image)


def _serve(image: Image) -> None:
    """What the image runs by default, on free ports; its health check; its end."""
    customers, ops = free_ports(2)
    config = Path(image.environment["GATEWAY_CONFIG"])
    text = image.here(config.read_text()).replace("8080", str(customers)).replace("8081", str(ops))
    config.write_text(text)
    entrypoint, health = last("ENTRYPOINT").words, ["gateway", "health", "--ready"]
    redis = EmbeddedRedis(image.root / "redis")
    redis.start_sync()
    image.environment |= {**NEEDED, "REDIS_URL": redis.url, "GATEWAY_WORKERS": "1"}
    try:
        print(image.run(*entrypoint, "check").splitlines()[0])
        process = subprocess.Popen(
            [*entrypoint, *last("CMD").words], cwd=image.where, env=image.environment, stdout=subprocess.DEVNULL
        )
        try:
            deadline = time.monotonic() + READY_SECONDS_MAX
            while subprocess.run(health, env=image.environment, check=False, capture_output=True).returncode:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit("the gateway of the image does not come up")
                time.sleep(0.5)
            print(image.run(*health).strip())
        finally:
            process.send_signal(signal.Signals[last("STOPSIGNAL").rest])
            status = process.wait(READY_SECONDS_MAX)
        if status:
            raise SystemExit(f"the gateway of the image ended with {status}")
    finally:
        redis.stop_sync()
    print("The image's steps, its config, its server and its health check: in order.")


if __name__ == "__main__":
    main()
