"""A flame graph of the path of a call: where the CPU time of the whole gateway goes, without its sockets.

`python -m benchmarks.flame [--calls 20000] [--connections 64] [--out build/flame.svg]`

The stack is looked at for every millisecond of CPU time, while the calls of `benchmarks.path` run. What C code takes
(parsers, JSON, the loop) is its caller's. Beside the picture are the stacks (`.folded`), a line for each with its
count, as other tools read them.
"""

import argparse
import asyncio
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from types import FrameType
from typing import Any, Final, cast

from benchmarks.memory import Customers, MemoryLoop
from benchmarks.path import LAYERS

EVERY_SECONDS: Final = 0.001
WIDTH, ROW, SMALLEST = 1600, 17, 0.5
#: Whose code it is, by a part of its path: ours, aiohttp's, the rest.
COLOURS: Final = (("/gateway/", "#e8a15b"), ("/aiohttp/", "#8fb8de"), ("/benchmarks/", "#d8d8d8"), ("", "#c9b8d8"))


def stack_of(frame: FrameType | None) -> Iterator[str]:
    """The functions that run, the innermost first."""
    while frame is not None:
        place = Path(frame.f_code.co_filename)
        yield f"{place.parent.name}/{place.stem}:{frame.f_code.co_qualname}"
        frame = frame.f_back


class Sampler:
    """Counts stacks while it is entered."""

    def __init__(self) -> None:
        self.stacks: Counter[tuple[str, ...]] = Counter()

    def __enter__(self) -> "Sampler":
        self._before = signal.signal(signal.SIGPROF, self._look)
        signal.setitimer(signal.ITIMER_PROF, EVERY_SECONDS, EVERY_SECONDS)
        return self

    def __exit__(self, *_error: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, self._before)

    def _look(self, _signal: int, frame: FrameType | None) -> None:
        self.stacks[tuple(stack_of(frame))[::-1]] += 1


@dataclass
class Node:
    """A function, called by the one above it."""

    name: str
    count: int = 0
    calls: dict[str, "Node"] = field(default_factory=dict)

    def depth(self) -> int:
        """How many lie on it, and it."""
        return 1 + max((each.depth() for each in self.calls.values()), default=0)


def tree(stacks: Counter[tuple[str, ...]], *, below: str) -> Node:
    """The stacks as one tree, each from the outermost function of the kind `below` on."""
    root = Node("all")
    for stack, count in stacks.items():
        first = next((at for at, name in enumerate(stack) if below in name), 0)
        node = root
        node.count += count
        for name in stack[first:]:
            node = node.calls.setdefault(name, Node(name))
            node.count += count
    return root


def boxes(node: Node, left: float, level: int, scale: float) -> Iterator[str]:
    """A node and what lies on it, as SVG."""
    width = node.count * scale
    if width < SMALLEST:
        return
    share = f"{escape(node.name)}: {width / WIDTH:.1%}"
    colour = next(colour for part, colour in COLOURS if part.strip("/") in node.name.split("/")[0] or not part)
    text = escape(node.name.rpartition(":")[2][: int(width / 7)]) if width > 30 else ""
    y = level * ROW
    yield (
        f"<g><title>{share}</title>"
        f'<rect x="{left:.1f}" y="{y}" width="{width:.1f}" height="{ROW - 1}" fill="{colour}"/>'
        f'<text x="{left + 2:.1f}" y="{y + 12}">{text}</text></g>'
    )
    for each in sorted(node.calls.values(), key=lambda other: other.name):
        yield from boxes(each, left, level + 1, scale)
        left += each.count * scale


def svg(root: Node) -> str:
    """The picture: a function lies below those that it calls, as wide as its share of the time."""
    height = root.depth() * ROW
    body = "\n".join(boxes(root, 0, 0, WIDTH / max(1, root.count)))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="monospace" font-size="11">\n{body}\n</svg>\n'
    )


async def sampled(calls: int, connections: int) -> Counter[tuple[str, ...]]:
    """The stacks while so many calls are served."""
    loop = cast("MemoryLoop", asyncio.get_running_loop())
    async with LAYERS["gateway"](loop) as factory:
        customers = Customers(factory, connections)
        await customers.call(connections * 4)
        with Sampler() as sampler:
            await customers.call(calls)
        customers.close()
        await asyncio.sleep(0.01)
    return sampler.stacks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path("build/flame.svg"))
    options: Any = parser.parse_args()
    with asyncio.Runner(loop_factory=MemoryLoop) as runner:
        stacks = runner.run(sampled(options.calls, options.connections))
    out: Path = options.out
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".folded").write_text("".join(f"{';'.join(stack)} {count}\n" for stack, count in stacks.items()))
    out.write_text(svg(tree(stacks, below="edge/")))
    print(f"{stacks.total()} looks: {out}, {out.with_suffix('.folded')}")
    own: Counter[str] = Counter()
    for stack, count in stacks.items():
        own[stack[-1]] += count
    for name, count in own.most_common(25):
        print(f"{count / stacks.total():6.1%}  {name}")


if __name__ == "__main__":
    main()
