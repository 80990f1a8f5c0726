"""`make sbom` and `make audit`: what the gateway is made of, and whether any of it is known to be weak.

Owns: what their tools (requirements/supply.lock) found, held against requirements/runtime.lock: neither is good for
fewer packages than that has. Does not know: how they find it.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import orjson

from gateway import __version__
from tests.harness import ROOT
from tests.supply.lock import Locked, locked

LOCK: Final = ROOT / "requirements/runtime.lock"


class Unproven(Exception):
    """What was found says too little."""


def bill(found: dict[str, Any], packages: dict[str, Locked], version: str) -> dict[str, Any]:
    """A bill of materials of what is installed, as that of the lock: with the hashes of its files. Unproven if another
    package, or another version, is installed, or one says nothing of its licence.
    """
    components = {part["purl"].partition("/")[2]: part for part in found["components"]}
    names = {f"{name}@{package.version}": package for name, package in packages.items()}
    if differing := sorted(components.keys() ^ names.keys()):
        raise Unproven(f"what is installed is not what is locked: {', '.join(differing)}")
    if silent := sorted(name for name, part in components.items() if not part.get("licenses")):
        raise Unproven(f"nothing is said of the licence of {', '.join(silent)}")
    for name, part in components.items():
        part.setdefault("externalReferences", []).append(
            {
                "type": "distribution",
                "url": part["purl"],
                "comment": "one of its files, as they are locked",
                "hashes": [{"alg": "SHA-256", "content": each} for each in names[name].hashes],
            }
        )
    found["metadata"]["component"]["version"] = version
    return found


def audited(found: dict[str, Any], packages: dict[str, Locked]) -> list[str]:
    """What is known to be weak, a line each. Unproven if nothing is known of a package."""
    told = {part["name"].lower(): part for part in found["dependencies"]}
    unknown = sorted(name for name in packages if "vulns" not in told.get(name, {}))
    if unknown:
        raise Unproven(
            f"the service knows nothing of {len(unknown)} of {len(packages)} packages ({', '.join(unknown[:3])}, ...): "
            "it was not reached, or is another one"
        )
    return [
        f"{name} {part['version']}: {weakness['id']}, mended in {', '.join(weakness['fix_versions']) or 'none yet'}"
        for name, part in told.items()
        for weakness in part["vulns"]
    ]


def sbom(tools: Path, build: Path) -> str:
    """Write build/sbom.json."""
    installed = build / "environment.json"
    _run(
        tools / "cyclonedx-py", "environment", "--output-reproducible", "--sv", "1.6", "--of", "JSON", "-o", installed,
        "--pyproject", ROOT / "pyproject.toml", build / "runtime/bin/python",
    )  # fmt: skip
    whole = bill(orjson.loads(installed.read_bytes()), locked(LOCK.read_text()), __version__)
    target = ROOT / "build/sbom.json"
    target.write_bytes(orjson.dumps(whole, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))
    return f"{target.relative_to(ROOT)}: {len(whole['components'])} components, each with its licence and hashes"


def audit(tools: Path, build: Path, service: str) -> str:
    """Ask a service for what is known of each package that is locked."""
    report, packages = build / "audit.json", locked(LOCK.read_text())
    report.unlink(missing_ok=True)
    said = _run(
        tools / "pip-audit", "--disable-pip", "--require-hashes", "-r", LOCK, "-s", service, "-f", "json", "-o", report,
        "--progress-spinner", "off", fails=True,
    )  # fmt: skip
    if not report.exists():
        raise Unproven(f"the service {service} was not reached: {said.splitlines()[-1] if said else 'it said nothing'}")
    if weak := audited(orjson.loads(report.read_bytes()), packages):
        raise Unproven("known to be weak:\n" + "\n".join(weak))
    return f"{len(packages)} packages, and nothing is known against any of them"


def _run(*command: str | Path, fails: bool = False) -> str:
    """Run a tool; what it said on standard error. Unproven if it fails, unless it may."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode and not fails:
        raise Unproven(f"{Path(command[0]).name} failed: {done.stderr.strip()[-2000:]}")
    return done.stderr.strip()


def main() -> int:
    """0 if what was asked for is proven."""
    parser = argparse.ArgumentParser(prog="python -m tests.supply")
    parser.add_argument("what", choices=("sbom", "audit"))
    parser.add_argument("--build", type=Path, default=ROOT / "build/supply", help="where the tools are")
    parser.add_argument("--service", default="pypi", choices=("pypi", "osv"), help="whom to ask")
    options = parser.parse_args()
    build = options.build.absolute()
    tools = build / "tools/bin"
    try:
        told = sbom(tools, build) if options.what == "sbom" else audit(tools, build, options.service)
    except Unproven as error:
        sys.stderr.write(f"{options.what}: {error}\n")
        return 1
    sys.stdout.write(f"{told}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
