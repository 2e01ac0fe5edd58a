"""Compares secrets with hashes in threads: two at a time, in turns by network, and remembers what matched."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import OrderedDict, deque
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from gateway_auth_apikey.keys import Key, matches
from gateway_core import network_of

THREADS: Final = 2
MAX_WAITING: Final = 256
MAX_WAITING_PER_NETWORK: Final = 32
MAX_REMEMBERED: Final = 10_000


class Busy(Exception):
    """Too many keys wait for their comparison."""


class Verifier:
    """Compares keys with stored hashes. Used on one event loop."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="auth_apikey")
        self._running = 0
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._remembered: OrderedDict[bytes, str] = OrderedDict()
        self._salt: Final = os.urandom(32)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def remembers(self, key: Key, stored: str) -> bool:
        """Whether this key has matched `stored` before. Takes microseconds."""
        digest = self._digest(key)
        if self._remembered.get(digest) != stored:
            return False
        self._remembered.move_to_end(digest)
        return True

    async def verify(self, key: Key, stored: str, address: str) -> bool:
        """Whether `stored` is a hash of the key's secret. Raises `Busy`.

        `address`: of the client. Networks take turns, so that one cannot make the others wait for all of its keys.
        """
        await self._turn(network_of(address))
        comparison = asyncio.get_running_loop().run_in_executor(self._threads, matches, key.secret, stored)
        comparison.add_done_callback(self._next)  # not when this coroutine ends, which may be earlier
        matched = await asyncio.shield(comparison)
        if matched:
            self._remembered[self._digest(key)] = stored
            if len(self._remembered) > MAX_REMEMBERED:
                self._remembered.popitem(last=False)
        return matched

    def _digest(self, key: Key) -> bytes:
        return hashlib.blake2b(str(key).encode(), key=self._salt, digest_size=32).digest()

    async def _turn(self, network: str) -> None:
        if self._running < THREADS:
            self._running += 1
            return
        queue = self._waiting.setdefault(network, deque())
        waiting = sum(map(len, self._waiting.values()))
        if len(queue) >= MAX_WAITING_PER_NETWORK or waiting >= MAX_WAITING:
            if not queue:
                del self._waiting[network]
            raise Busy("too many keys wait for their comparison; try again later")
        turn = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._next()  # it was this one's turn
            elif turn in queue:
                queue.remove(turn)
                if not queue:
                    del self._waiting[network]
            raise

    def _next(self, _: object = None) -> None:
        """Pass the place of a comparison that has ended to the next network."""
        while self._waiting:
            network, queue = self._waiting.popitem(last=False)
            turn = queue.popleft()
            if queue:
                self._waiting[network] = queue  # at the end
            if not turn.done():
                turn.set_result(None)
                return
        self._running -= 1
