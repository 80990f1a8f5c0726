"""`gateway` for a shell, without starting Python for each command: the words go to this process, which runs them.

Owns: how the words get here. Does not know: any command; each is the command line's own, as from a terminal.
"""

import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import orjson
from click.testing import CliRunner

from gateway.cli import main

_SCRIPT = """#!{python} -IS
import json, socket, sys
with socket.socket(socket.AF_UNIX) as line:
    line.connect({place!r})
    line.sendall(json.dumps([sys.argv[1:], sys.stdin.read() if "-" in sys.argv else ""]).encode())
    line.shutdown(socket.SHUT_WR)
    status, out, err = json.load(line.makefile())
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(status)
"""


@contextmanager
def commands(environment: Mapping[str, str]) -> Iterator[str]:
    """A PATH on which `gateway` is ours, with this environment."""
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listener:
        place = f"{directory}/commands.sock"
        listener.bind(place)
        listener.listen()
        script = Path(directory, "gateway")
        script.write_text(_SCRIPT.format(python=sys.executable, place=place))
        script.chmod(0o755)
        serving = threading.Thread(target=_serve, args=(listener, environment))
        serving.start()
        try:
            yield f"{directory}:{environment['PATH']}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            serving.join()


def _serve(listener: socket.socket, environment: Mapping[str, str]) -> None:
    while True:
        try:
            line, _ = listener.accept()
        except OSError:
            return
        with line, line.makefile("rwb") as file:
            words, stdin = orjson.loads(file.read())
            done = CliRunner().invoke(main, words, input=stdin, env=environment, prog_name="gateway")
            file.write(orjson.dumps([done.exit_code, done.stdout, done.stderr]))
