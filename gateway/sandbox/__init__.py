"""The sandbox: a simulator of the upstream, for the demo, the tests and the benchmarks.

One application serves every product on one port: pre-recorded speech-to-text (/v2/...), streaming (/v3/...), the LLM
gateway with speech understanding, the voice agent, and text-to-speech (/v1/...). It answers as the vendor does, down
to error bodies and close codes, and it can be made to misbehave.

    sandbox = await start(SandboxSettings(job_seconds=0), "127.0.0.1", 0)
    ...                                   # sandbox.url, sandbox.state
    await sandbox.stop()

- The one credential it takes is `SandboxSettings.credential`, raw or as `Bearer`; sockets also take its own temporary
  tokens. Any other value that arrives is counted (`foreign_credentials`): a gateway must never let one through.
- Everything is deterministic but identifiers: the same request reports the same usage.
- `PUT /sandbox/knobs` changes how it behaves, a header `X-Sandbox-<Knob>` does so for one request;
  `GET /sandbox/knobs?describe=1` lists what there is. `GET /sandbox/requests`, `/sandbox/state` and
  `/sandbox/sessions` tell what it saw, `DELETE /sandbox/requests` forgets that.

Invariants: memory is bounded; no state outlives an application or is shared between two; nothing here is imported from
the rest of the gateway.
"""

from gateway.sandbox.app import Sandbox, build_app, run, start
from gateway.sandbox.knobs import Knobs, SandboxSettings
from gateway.sandbox.state import STATE, SandboxState

__all__ = ["STATE", "Knobs", "Sandbox", "SandboxSettings", "SandboxState", "build_app", "run", "start"]
