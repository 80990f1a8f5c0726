"""Bodies that are in hand.

Owns: taking them out of aiohttp's readers. Does not know: whose they are.
"""

from aiohttp.streams import StreamReader


def rest_of(reader: StreamReader) -> bytes:
    """What is left of a body that has come to its end.

    In one piece it is taken out of the reader's buffer: there is nothing left for the reader to keep count of.
    """
    if reader.at_eof():
        return b""
    buffer = reader._buffer
    return buffer.popleft() if len(buffer) == 1 and not reader._buffer_offset else reader.read_nowait(-1)
