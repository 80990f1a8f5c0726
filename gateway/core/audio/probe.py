"""A file of audio that streams past, read for how long it is and how many channels it has.

Owns: which container it is, and handing each walk the bytes that it asks for.
Does not know: what it is read for. Never raises on hostile bytes, keeps a few of them at a time, and looks at a bounded
number of pieces however long the file is: of what is longer, the rest is taken to be like its beginning.

Each container is a generator that walks along the file: it yields how many bytes to pass over and how many to be given
after them, so that an index behind gigabytes of audio is found as well. It notes what it learns in `Seen`.
"""

from collections.abc import Mapping
from typing import Final

from gateway.core.audio.matroska import matroska
from gateway.core.audio.mp4 import mp4
from gateway.core.audio.mpeg import adts, frame_of, is_adts, mpeg
from gateway.core.audio.ogg import ogg
from gateway.core.audio.samples import aiff, flac, wav
from gateway.core.audio.seen import Seen, Steps

#: What `Probe.facts` may say.
FACTS: Final = ("bytes", "seconds", "channels")


class Probe:
    """Reads a file that is fed to it piece by piece."""

    __slots__ = ("_kept", "_seen", "_skip", "_walk", "_want", "size")

    def __init__(self) -> None:
        self.size = 0
        self._seen = Seen()
        self._kept = bytearray()
        self._walk: Steps | None = _walk(self._seen)
        self._skip, self._want = next(self._walk)

    def __repr__(self) -> str:
        return f"<Probe size={self.size} {self._seen}>"

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the file. Costs nothing where the walk passes over them."""
        self.size += len(chunk)
        at = 0
        while self._walk is not None:
            passed = min(self._skip, len(chunk) - at)
            at += passed
            self._skip -= passed
            wanted = chunk[at : at + self._want - len(self._kept)] if not self._skip else b""
            at += len(wanted)
            self._kept += wanted
            if self._skip or len(self._kept) < self._want:
                return
            given = bytes(self._kept)
            self._kept.clear()
            self._seen.at = self.size - len(chunk) + at
            try:
                self._skip, self._want = self._walk.send(given)
            except StopIteration:
                self._walk = None

    def facts(self, size: int | None = None) -> Mapping[str, int]:
        """What is known of a file of this size (None: of what was fed): `bytes`, and `seconds` and `channels` if it
        says them.
        """
        size = self.size if size is None else size
        said = {"bytes": size, "seconds": self._seen.duration(size), "channels": self._seen.channels}
        return {name: value for name, value in said.items() if value}


def _walk(seen: Seen) -> Steps:
    """Whatever container it is."""
    magic = yield 0, 4
    if magic.startswith(b"ID3"):
        head = yield 0, 6
        length = sum((byte & 0x7F) << shift for byte, shift in zip(head[2:], (21, 14, 7, 0), strict=True))
        magic = yield length + (10 if head[1] & 0x10 else 0), 4
        seen.start = seen.at - 4
    simple = {
        b"RIFF": wav, b"RF64": wav, b"BW64": wav, b"FORM": aiff, b"fLaC": flac, b"OggS": ogg,
        b"\x1a\x45\xdf\xa3": matroska,
    }.get(magic)  # fmt: skip
    if simple is not None:
        yield from simple(seen)
    elif is_adts(magic):
        yield from adts(seen, magic)
    elif frame_of(magic) is not None:
        yield from mpeg(seen, magic)
    else:
        name = yield 0, 4
        if name in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            yield from mp4(seen, magic + name)
        else:
            yield from mpeg(seen, name)
