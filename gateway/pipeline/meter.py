"""From bodies to facts: a bounded copy of a reply, decoded and parsed for metering.

Owns: the copy, its bound, content decoding, JSON.
Does not know: prices. Never raises on what an upstream sent: what cannot be read reports nothing. Only a compressed
stream, which has to be read to be passed on, is cut where it cannot be.
"""

import json
import re
import zlib
from typing import Any, Final

import orjson

from gateway.core.errors import UpstreamUnreachable

#: Content encodings that metering can read, beside none.
DECODABLE: Final = ("gzip", "x-gzip", "deflate")
#: Header fields that speak of the very bytes of a body.
OF_THE_BYTES: Final = ("Content-Encoding", "ETag", "Content-MD5", "Digest", "Content-Digest", "Repr-Digest")
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32
_GZIP_MAGIC = b"\x1f\x8b"
#: A body of more gzip members than this is nobody's in good faith.
_MEMBERS_MAX = 64
#: orjson writes 254 levels; nothing that a service means to say is as deep as this.
_DEPTH_MAX = 200
#: JSON up to where something begins, outside of strings, that may be no number; and what is none.
_NUMBERS: Final = re.compile(rb'(?:[^"NI-]++|-(?!I)|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)
_NO_NUMBER: Final = re.compile(rb"NaN|-?Infinity")
#: The same of escapes: halves of a character that come together; and one that comes alone.
_PAIRS: Final = re.compile(rb"(?:[^\\]++|\\(?!u[dD][89a-fA-F]).|\\u[dD][89abAB]..\\u[dD][c-fC-F]..)*+", re.DOTALL)
_HALF: Final = re.compile(rb"\\u[dD][89a-fA-F]..", re.DOTALL)
#: JSON with line breaks and tabs in its strings is read as it is up to this size: to do so takes ten times as long as
#: to read it well, while nobody else is served. Beyond, they count as spaces.
_LENIENT_BYTES_MAX: Final = 256 * 1024
_SPACED: Final = bytes(max(code, 0x20) for code in range(256))
#: A chunk of a stream that inflates to more than this is nobody's in good faith either.
_INFLATED_BYTES_MAX = 8 * 1024 * 1024


class Copy:
    """A copy of a reply's body for metering, of at most `bytes_max`; beyond, it is given up and reports nothing."""

    __slots__ = ("_bytes_max", "_chunks", "overflown", "size")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._chunks: list[bytes] = []
        self.size = 0
        self.overflown = False

    def add(self, chunk: bytes) -> bytes:
        """Keep a chunk, if there is room. The chunk."""
        self.size += len(chunk)
        if not self.overflown:
            self._chunks.append(chunk)
        if self.size > self._bytes_max:
            self.overflown = True
            self._chunks.clear()
        return chunk

    def body(self) -> bytes:
        """What was kept; empty if the bound was passed."""
        return self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)


def decoded(body: bytes, encoding: str, bytes_max: int) -> bytes | None:
    """The body without its content encoding; None if it cannot be decoded within the bound."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in DECODABLE:
        return None
    for window_bits in (_GZIP_OR_ZLIB, -zlib.MAX_WBITS):  # some servers send deflate without its zlib wrapper
        try:
            return _inflated(body, window_bits, bytes_max)
        except zlib.error:
            continue
    return None


def _inflated(body: bytes, window_bits: int, bytes_max: int) -> bytes | None:
    """All members of a compressed body (RFC 1952 2.2); None if it is cut or larger than the bound."""
    plain = b""
    for _ in range(_MEMBERS_MAX):
        decoder = zlib.decompressobj(window_bits)
        plain += decoder.decompress(body, bytes_max - len(plain) + 1)  # 0 would be no bound
        if not decoder.eof or len(plain) > bytes_max:
            return None
        body = decoder.unused_data
        if not body.startswith(_GZIP_MAGIC):
            return plain
    return None


class Inflating:
    """A compressed stream's plain bytes as they come. UpstreamUnreachable where they cannot be had."""

    __slots__ = ("_decoder",)

    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(_GZIP_OR_ZLIB)

    def feed(self, chunk: bytes) -> bytes:
        """What these bytes add."""
        plain = b""
        try:
            while chunk:
                if self._decoder.eof:  # another member (RFC 1952 2.2)
                    self._decoder = zlib.decompressobj(_GZIP_OR_ZLIB)
                plain += self._decoder.decompress(chunk, _INFLATED_BYTES_MAX - len(plain) + 1)
                if len(plain) > _INFLATED_BYTES_MAX:
                    raise UpstreamUnreachable("a compressed stream grows beyond all measure")
                chunk = self._decoder.unused_data
        except zlib.error as error:
            raise UpstreamUnreachable("a compressed stream cannot be read") from error
        return plain

    def finish(self) -> None:
        """The stream is over."""
        if not self._decoder.eof:
            raise UpstreamUnreachable("a compressed stream was cut")


def parsed(body: bytes) -> Any:
    """The JSON data, or None."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def reply_data(body: bytes) -> Any:
    """The JSON data of a reply, or None. Read as clients read it: Python's services write NaN, others a byte order
    mark, models broken UTF-8 and half an emoji; what the reply reports is known all the same. All of it can be written
    again.
    """
    data = parsed(body)
    if data is None and body:
        plain = body.decode(json.detect_encoding(body), "replace").encode(errors="replace")
        plain = _replaced(_replaced(plain, _NUMBERS, _NO_NUMBER, b"null"), _PAIRS, _HALF, rb"\ufffd")
        data = parsed(plain)
        if data is None and len(plain) > _LENIENT_BYTES_MAX:
            return parsed(plain.translate(_SPACED))
        if data is None:
            try:
                data = parsed(json.dumps(json.loads(plain, strict=False)).encode())
            except (ValueError, RecursionError):
                return None
    return data


def _replaced(text: bytes, sound: re.Pattern[bytes], unsound: re.Pattern[bytes], by: bytes) -> bytes:
    """JSON with something in place of what we cannot read. It takes about as long as to parse it."""
    parts: list[bytes] = []
    begin = 0
    while (end := sound.match(text, begin).end()) < len(text):  # type: ignore[union-attr]  # it matches nothing, too
        found = unsound.match(text, end)
        if found is None:
            return text
        parts += (text[begin:end], by)
        begin = found.end()
    return b"".join((*parts, text[begin:]))


def without_fields(data: Any, names: frozenset[str], depth: int = _DEPTH_MAX) -> Any:
    """JSON data without the named fields, at any depth. What is deeper than can be written again becomes null."""
    if depth == 0:
        return None
    if type(data) is dict:
        return {name: without_fields(value, names, depth - 1) for name, value in data.items() if name not in names}
    if type(data) is list:
        return [without_fields(value, names, depth - 1) for value in data]
    return data
