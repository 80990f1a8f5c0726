"""Four vendors on one port: replies of the shapes that their documentation shows, and what they were sent.

Owns: the shapes. Does not know: the gateway.

Sources: platform.openai.com/docs/api-reference (chat, responses, embeddings), docs.anthropic.com/en/api/messages and
.../messages-streaming, developers.deepgram.com/reference (listen, speak), elevenlabs.io/docs/api-reference.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from aiohttp import WSMsgType, web

AUDIO = b"ID3" + bytes(2000)


class Vendors:
    """Takes its own keys only, for no other organization. `requests` are paths with their queries; `cut`: streams break
    off before their end. `overloaded`: Anthropic's fail when they have begun. `refuses`: everything, with this status.
    """

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.sent: list[dict[str, Any]] = []
        self.cut = False
        self.overloaded = False
        self.refuses = 0
        self.app = web.Application(middlewares=[self._check])
        add = self.app.router.add_post
        add("/v1/chat/completions", self.chat)
        self.app.router.add_get("/v1/models/gpt-5.2", self.model)
        add("/v1/responses", self.responses)
        add("/v1/embeddings", self.embeddings)
        add("/v1/messages", self.messages)
        add("/v1/messages/count_tokens", self.count_tokens)
        add("/v1/listen", self.listen)
        add("/v1/speak", self.speech)
        add("/v1/text-to-speech/{voice}", self.speech)
        add("/v1/text-to-speech/{voice}/stream", self.speech)
        self.app.router.add_get("/v1/listen", self.session)

    @web.middleware
    async def _check(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests.append(request.path_qs)
        if self.refuses or {"OpenAI-Organization", "OpenAI-Project"} & request.headers.keys():
            said_no = {
                "error": {"message": "Incorrect API key", "type": "invalid_request_error", "code": "invalid_api_key"}
            }
            return web.json_response(said_no, status=self.refuses or 401)
        said = [
            request.headers[name] for name in ("Authorization", "x-api-key", "xi-api-key") if name in request.headers
        ]
        assert said in (["Bearer openai"], ["anthropic"], ["Token deepgram"], ["elevenlabs"]), "one key, and ours"
        if request.content_type == "application/json":
            self.sent.append(await request.json())
        found: web.StreamResponse = await handler(request)
        return found

    async def _stream(self, request: web.Request, events: list[tuple[str, Any]]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for name, data in events:
            line = f"event: {name}\n".encode() if name else b""
            text = data if isinstance(data, bytes) else orjson.dumps(data)
            await response.write(line + b"data: " + text + b"\n\n")
        if self.cut:
            assert request.transport is not None
            request.transport.abort()
        else:
            await response.write_eof()
        return response

    # ---- OpenAI

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """1,000 tokens, 200 of them cached, and 50 in answer."""
        asked = self.sent[-1]
        usage = {
            "prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": 1050,
            "prompt_tokens_details": {"cached_tokens": 200, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 10},
        }  # fmt: skip
        base = {"id": "chatcmpl-1", "created": 1, "model": "gpt-5.2-2026-01-31", "service_tier": "default"}
        if not asked.get("stream"):
            message = {"role": "assistant", "content": "Hello.", "refusal": None}
            choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
            return web.json_response({**base, "object": "chat.completion", "choices": [choice], "usage": usage})
        chunk = {**base, "object": "chat.completion.chunk", "usage": None}
        delta = {"index": 0, "delta": {"role": "assistant", "content": "Hello."}, "finish_reason": None}
        events: list[tuple[str, Any]] = [("", {**chunk, "choices": [delta]})]
        if asked.get("stream_options", {}).get("include_usage"):
            events.append(("", {**chunk, "choices": [], "usage": usage}))
        return await self._stream(request, [*events, ("", b"[DONE]")])

    async def responses(self, request: web.Request) -> web.StreamResponse:
        """2,000 tokens, 500 of them cached, and 100 in answer."""
        usage = {
            "input_tokens": 2000, "input_tokens_details": {"cached_tokens": 500}, "output_tokens": 100,
            "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 2100,
        }  # fmt: skip
        text = {"type": "output_text", "text": "Hello.", "annotations": []}
        output = [{"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [text]}]
        whole = {
            "id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": "gpt-5-mini",
            "output": output, "usage": usage, "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
        }  # fmt: skip
        if not self.sent[-1].get("stream"):
            return web.json_response(whole)
        begun = {**whole, "status": "in_progress", "output": [], "usage": None}
        delta = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "delta": "Hello.", "logprobs": []}
        events: list[tuple[str, dict[str, Any]]] = [
            ("response.created", {"response": begun}),
            ("response.output_text.delta", delta),
            ("response.completed", {"response": whole}),
        ]
        return await self._stream(
            request, [(name, {"type": name, "sequence_number": at, **data}) for at, (name, data) in enumerate(events)]
        )

    async def model(self, _request: web.Request) -> web.Response:
        """One model."""
        return web.json_response({"id": "gpt-5.2", "object": "model", "created": 1, "owned_by": "system"})

    async def embeddings(self, _request: web.Request) -> web.Response:
        """Eight tokens."""
        item = {"object": "embedding", "index": 0, "embedding": [0.5, -0.5]}
        usage = {"prompt_tokens": 8, "total_tokens": 8}
        return web.json_response({"object": "list", "data": [item], "model": "text-embedding-3-small", "usage": usage})

    # ---- Anthropic

    async def messages(self, request: web.Request) -> web.StreamResponse:
        """JSON: something of everything. A stream: 25 tokens and 15 in answer, which its first event counts as one."""
        base = {
            "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-6-20260219",
            "stop_reason": None, "stop_sequence": None,
        }  # fmt: skip
        if not self.sent[-1].get("stream"):
            usage = {
                "input_tokens": 1000, "cache_read_input_tokens": 2000, "cache_creation_input_tokens": 400,
                "cache_creation": {"ephemeral_5m_input_tokens": 300, "ephemeral_1h_input_tokens": 100},
                "output_tokens": 100, "service_tier": "standard", "server_tool_use": {"web_search_requests": 2},
            }  # fmt: skip
            content = [{"type": "text", "text": "Hello."}]
            return web.json_response({**base, "content": content, "stop_reason": "end_turn", "usage": usage})
        begun: dict[str, Any] = {**base, "content": [], "usage": {"input_tokens": 25, "output_tokens": 1}}
        events: list[tuple[str, dict[str, Any]]] = [
            ("message_start", {"message": begun}),
            ("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}),
            ("ping", {}),
            ("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": "Hello."}}),
        ]
        if self.overloaded:
            events[1:] = [("error", {"error": {"type": "overloaded_error", "message": "Overloaded"}})]
        elif not self.cut:
            ended = {"stop_reason": "end_turn", "stop_sequence": None}
            events += [
                ("content_block_stop", {"index": 0}),
                ("message_delta", {"delta": ended, "usage": {"output_tokens": 15}}),
                ("message_stop", {}),
            ]
        return await self._stream(request, [(name, {"type": name, **data}) for name, data in events])

    async def count_tokens(self, _request: web.Request) -> web.Response:
        """Free."""
        return web.json_response({"input_tokens": 14})

    # ---- Deepgram and ElevenLabs

    async def listen(self, request: web.Request) -> web.Response:
        """A minute and a half on two channels."""
        await request.read()
        words = [{"word": "hello", "start": 0.1, "end": 0.5, "confidence": 0.9}]
        channel = {"alternatives": [{"transcript": "hello", "confidence": 0.9, "words": words}]}
        metadata = {
            "transaction_key": "deprecated", "request_id": "r1", "sha256": "0", "created": "2026-04-07T00:00:00Z",
            "duration": 90.5, "channels": 2, "models": ["m1"],
            "model_info": {"m1": {"name": "general-nova-3", "version": "1", "arch": "nova-3"}},
        }  # fmt: skip
        return web.json_response({"metadata": metadata, "results": {"channels": [channel, channel]}})

    async def session(self, request: web.Request) -> web.WebSocketResponse:
        """A socket; 3,200 bytes of audio are a tenth of a second."""
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        size, channels = 0, int(request.query.get("channels", "1"))
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                size += len(message.data)
            elif message.json()["type"] == "CloseStream":
                said = {"type": "Metadata", "transaction_key": "deprecated", "request_id": "r1", "sha256": "0"}
                await socket.send_json(
                    {
                        **said,
                        "created": "2026-04-07T00:00:00Z",
                        "duration": size / 32000 / channels,
                        "channels": channels,
                    }
                )
                await socket.close()
        return socket

    async def speech(self, _request: web.Request) -> web.Response:
        """Audio."""
        return web.Response(body=AUDIO, content_type="audio/mpeg")


@asynccontextmanager
async def vendors() -> AsyncIterator[tuple[Vendors, str]]:
    """All of them, and their address."""
    found = Vendors()
    runner = web.AppRunner(found.app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield found, f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()
