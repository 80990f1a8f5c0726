"""A worker: a process that takes customers' calls from a socket that its supervisor bound.

Owns: the worker's side of the channel, its signals, the garbage collector's settings.
Does not know: the config's files. The supervisor has checked a config and sends it, so that a worker that takes the
place of one that died serves what the others serve, whatever the files say meanwhile.
"""

import asyncio
import gc
import pickle
import signal
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

from gateway.edge.app import Gateway
from gateway.edge.ledger import open_ledger
from gateway.edge.observing import Observing
from gateway.edge.process.channel import Channel, Says
from gateway.edge.process.files import within_files
from gateway.edge.process.loop import run
from gateway.settings.runtime import Runtime
from gateway.settings.tls import PemFile, Tls

REPORT_SECONDS: Final = 1.0


async def work(channel: Channel, listener: socket.socket) -> None:
    """Serve until the supervisor says to end, is gone, or the machine stops."""
    packed = await channel.receive()
    if packed is None:
        return
    sent: Runtime = pickle.loads(packed)  # noqa: S301 - from our own supervisor, over a socket that nobody else has
    runtime = replace(sent, limits=within_files(sent.limits))
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    observing = Observing(runtime)
    async with open_ledger(runtime, keep=True, observer=observing.all) as ledger:
        gateway = Gateway(runtime, ledger=ledger, observing=observing, listener=listener)
        told = [asyncio.create_task(_report(channel, gateway)), asyncio.create_task(_obey(channel, gateway, ending))]
        try:
            async with gateway:
                gc.collect()
                gc.freeze()  # what is alive now stays: it need not be looked at again (halves the p99)
                gc.set_threshold(50_000, 20, 20)
                channel.say(Says.READY)
                await ending.wait()
        finally:
            for task in told:
                task.cancel()
            await asyncio.gather(*told, return_exceptions=True)
    channel.say(Says.FIGURES, gateway.measured().figures())


async def _report(channel: Channel, gateway: Gateway) -> None:
    """Say all figures now and then: a process that is killed says nothing more."""
    while True:
        await asyncio.sleep(REPORT_SECONDS)
        channel.say(Says.FIGURES, gateway.measured().figures())


async def _obey(channel: Channel, gateway: Gateway, ending: asyncio.Event) -> None:
    """Do what the supervisor says. Without a supervisor, end as at a shutdown."""
    while heard := await channel.hear():
        match heard:
            case Says.REPORT, _:
                channel.say(Says.FIGURES, gateway.measured().figures())
            case Says.SHOW, files:
                await gateway.show(None if files is None else _tls(files))
                channel.say(Says.SHOWN)
            case Says.END_WITHIN, (seconds, linger_seconds):
                gateway.end_within(seconds, linger_seconds=linger_seconds)
                ending.set()
                channel.say(Says.ENDING)
    ending.set()


def _tls(files: list[tuple[str, str]]) -> Tls:
    certificate, private_key, *client_ca = (PemFile(Path(path), text) for path, text in files)
    return Tls(certificate=certificate, private_key=private_key, client_ca=client_ca[0] if client_ca else None)


async def _main(control: int, listener: int) -> int:
    channel = await Channel.over(socket.socket(fileno=control))
    try:
        await work(channel, socket.socket(fileno=listener))
    except OSError as error:  # no room for the spool, too many open files
        channel.say(Says.FAILED, str(error))
        return 1
    finally:
        await channel.close()
    return 0


if __name__ == "__main__":
    for name in (signal.SIGINT, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)  # the terminal's are for the supervisor
    sys.exit(run(_main(*map(int, sys.argv[1:]))))
