"""Files of audio of any length, each with as much in it as its container needs to say how long it is."""

from collections.abc import Callable, Iterable


def wav(seconds: int, *, channels: int = 1, claimed_bytes: int | None = None, form: bytes = b"RIFF") -> bytes:
    """8000 samples of one byte a second."""
    rate = 8000 * channels
    size = seconds * rate
    head = b"WAVEfmt " + _little(16) + _little(1, 2) + _little(channels, 2) + _little(8000) + _little(rate)
    head += _little(channels, 2) + _little(8, 2)
    head += b"LIST" + _little(5) + b"INFO!\0"  # a chunk that nobody needs, of an odd length
    head += b"data" + _little(size if claimed_bytes is None else claimed_bytes)
    return form + _little(len(head) + size) + head + bytes(size)


def flac(seconds: int, *, channels: int = 1, rate: int = 48_000, size: int = 5000) -> bytes:
    """A header, and bytes that stand for frames."""
    packed = rate << 44 | (channels - 1) << 41 | 15 << 36 | seconds * rate
    return b"fLaC" + b"\x00\x00\x00\x22" + bytes(10) + packed.to_bytes(8, "big") + bytes(16) + bytes(size)


def mp3(seconds: int, *, channels: int = 1, indexed: int | None = None) -> bytes:
    """Behind a picture 24 ms frames of 8 kbit/s, the first of which counts `indexed` frames where that is given."""
    head = bytes([0xFF, 0xF3, 0x14, 0xC0 if channels == 1 else 0x00])
    frames = head + bytes(20)
    picture = b"ID3\x04\x00\x00" + bytes([0, 0, 2, 0]) + bytes(256)
    index = b""
    if indexed is not None:
        index = (head[:2] + b"\x44" + head[3:] + bytes(9 if channels == 1 else 17)).ljust(4 + 17, b"\0")
        index = index[: 4 + (9 if channels == 1 else 17)] + b"Xing" + _big(1) + _big(indexed)
        index = index.ljust(96, b"\0")
    return picture + index + frames * (seconds * 1000 // 24)


def opus(seconds: int, *, channels: int = 1, serial: int = 7, page_seconds: int = 1, page_bytes: int = 100) -> bytes:
    """A page for each second."""
    head = b"OpusHead\x01" + bytes([channels]) + _little(312, 2) + _little(48_000) + bytes(3)
    pages = [_page(2, 0, serial, head), _page(0, 0, serial, b"OpusTags" + bytes(8))]
    ends = range(page_seconds, seconds + 1, page_seconds)
    return b"".join(pages + [_page(0, end * 48_000 + 312, serial, bytes(page_bytes)) for end in ends])


def mp4(seconds: int, *, channels: int = 1, index_last: bool = True, size: int = 5000, long: bool = False) -> bytes:
    """Bytes that stand for audio, and an index before or behind them."""
    ticks, flags = seconds * 1000, b"\x01\0\0\0" if long else bytes(4)
    width = 8 if long else 4
    time = flags + bytes(2 * width) + _big(1000) + _big(ticks, width) + bytes(80)
    sound = _box(b"mp4a", bytes(16) + _big(channels, 2) + bytes(10))
    table = _box(b"stbl", _box(b"stsd", bytes(4) + _big(1) + sound), _box(b"stts", bytes(24)))
    track = _box(b"trak", _box(b"tkhd", bytes(84)), _box(b"mdia", _box(b"mdhd", time), _box(b"minf", table)))
    index, audio = _box(b"moov", _box(b"mvhd", time), track), _large(b"mdat", bytes(size))
    parts = [audio, index] if index_last else [index, audio]
    return _box(b"ftyp", b"M4A " + bytes(12)) + _box(b"free") + b"".join(parts)


def live(blocks: int) -> bytes:
    """A WebM stream as browsers record it: nobody knew its length, and each block of 25 ms says its time."""
    cluster = b"\x1f\x43\xb6\x75\x01" + b"\xff" * 7
    parts = [b"\x1a\x45\xdf\xa3\x80", b"\x18\x53\x80\x67\x01" + b"\xff" * 7]
    start = 0
    for number in range(1, blocks + 1):
        at = number * 25
        if number % 400 == 1:
            start = at
            parts += [cluster, b"\xe7\x84", _big(start)]
        parts += [b"\xa3\x8e\x81", _big(at - start, 2), bytes(11)]
    return b"".join(parts)


#: Of each container, a maker of files.
MAKERS: dict[str, Callable[..., bytes]] = {"wav": wav, "flac": flac, "mp3": mp3, "opus": opus, "mp4": mp4}


def _little(value: int, size: int = 4) -> bytes:
    return value.to_bytes(size, "little")


def _big(value: int, size: int = 4) -> bytes:
    return value.to_bytes(size, "big")


def _page(flags: int, granule: int, serial: int, content: bytes) -> bytes:
    lacing = bytes([255] * (len(content) // 255) + [len(content) % 255])
    head = b"OggS\0" + bytes([flags]) + _little(granule, 8) + _little(serial) + bytes(8) + bytes([len(lacing)])
    return head + lacing + content


def _box(name: bytes, *contents: bytes) -> bytes:
    content = b"".join(contents)
    return _big(len(content) + 8) + name + content


def _large(name: bytes, content: bytes) -> bytes:
    return _big(1) + name + _big(len(content) + 16, 8) + content


def pieces(data: bytes, size: int) -> Iterable[bytes]:
    """The bytes in pieces of a size."""
    return (data[at : at + size] for at in range(0, len(data), size))
