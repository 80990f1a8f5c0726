"""A fixed chat completion, answered as fast as Python can: one write for each request.

`python -m benchmarks.upstream PORT`
"""

import asyncio
import sys
from typing import cast

import uvloop

BODY = (
    b'{"id":"chatcmpl-0123456789abcdef0123456789","object":"chat.completion","created":1700000000,"model":"gpt-5.2",'
    b'"system_fingerprint":"fp_0123456789","choices":[{"index":0,"message":{"role":"assistant","content":"The quick '
    b"brown fox jumps over the lazy dog. The quick brown fox jumps over the lazy dog. The quick brown fox jumps over "
    b'the lazy dog.","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":{'
    b'"prompt_tokens":23,"completion_tokens":34,"total_tokens":57,"prompt_tokens_details":{"cached_tokens":0},'
    b'"completion_tokens_details":{"reasoning_tokens":0}}}'
)
REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)


class Connection(asyncio.Protocol):
    """Counts heads and body bytes; answers when a request is complete."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:

        self.transport = cast("asyncio.Transport", transport)
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            if b"transfer-encoding: chunked" in head:
                last = self.buffer.find(b"0\r\n\r\n", end + 4)
                if last < 0:
                    return
                total = last + 5
            else:
                at = head.find(b"content-length:")
                length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
                total = end + 4 + length
            if len(self.buffer) < total:
                return
            self.buffer = self.buffer[total:]
            self.transport.write(REPLY)


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
