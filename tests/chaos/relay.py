"""A TCP relay between one daemon and the sandbox, which can be cut, or fall silent and deliver late."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Optional

#: Bytes forwarded at once.
PIECE = 64 * 1024
#: Connections of one relay; a daemon keeps a few dozen.
CONNECTIONS_MAX = 512
#: For the loop to do what it is asked, on a busy machine, in seconds.
PATIENCE = 60.0


class Loop:
    """One event loop in a thread, for all relays."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="relays", daemon=True)
        self._thread.start()

    def run(self, work):
        """Runs a coroutine in the loop and waits for its end."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout=PATIENCE)

    def end(self) -> None:
        """Stops the loop; connections end with it."""
        self.run(self._cancel())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(timeout=5)

    @staticmethod
    async def _cancel() -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


@dataclass
class Relay:
    """One listening port on loopback that leads to the sandbox.

    It forwards, unless it is `cut` or `silent`. `cut` resets what is there and what comes: the network says no. `silent`
    takes bytes and forwards none, as a network that lost its path: clients run into their time-outs, and what they had
    sent arrives after all when the path is back. Both may be imposed several times at once; each is lifted by itself.
    """

    loop: Loop
    target: tuple[str, int]
    port: int = 0
    _imposed: Counter[str] = field(default_factory=Counter)
    _flow: Optional[asyncio.Event] = None
    _server: Optional[asyncio.Server] = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def start(self) -> "Relay":
        """Begins to listen on a port of the kernel's choice."""
        self.loop.run(self._start())
        return self

    async def _start(self) -> None:
        self._flow = asyncio.Event()
        self._flow.set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    @property
    def url(self) -> str:
        """What the daemon is told."""
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def being(self, mode: str) -> Iterator[None]:
        """`cut` or `silent` for a time, whatever else is done to it meanwhile."""
        self.loop.run(self._impose(mode, 1))
        try:
            yield
        finally:
            self.loop.run(self._impose(mode, -1))

    async def _impose(self, mode: str, more: int) -> None:
        self._imposed[mode] += more
        if self._imposed["cut"]:
            for writer in list(self._writers):
                writer.transport.abort()
        if self._imposed["silent"] and not self._imposed["cut"]:
            self._flow.clear()
        else:
            self._flow.set()

    def end(self) -> None:
        """Takes no more connections and ends those that are there."""
        self.loop.run(self._end())

    async def _end(self) -> None:
        self._server.close()
        await self._impose("cut", 1)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if self._imposed["cut"] or len(self._writers) > 2 * CONNECTIONS_MAX:
                writer.transport.abort()
                return
            await self._flow.wait()
            there, onward = await asyncio.open_connection(*self.target)
            self._writers.add(onward)
            try:
                await asyncio.gather(self._pump(reader, onward), self._pump(there, writer))
            finally:
                self._writers.discard(onward)
                onward.close()
        except (OSError, asyncio.CancelledError):
            # Either side hung up, or the sandbox or this loop has ended: the other side is told by the close.
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _pump(self, source: asyncio.StreamReader, drain: asyncio.StreamWriter) -> None:
        while piece := await source.read(PIECE):
            await self._flow.wait()
            drain.write(piece)
            await drain.drain()
        await self._flow.wait()
        if drain.can_write_eof():
            drain.write_eof()
