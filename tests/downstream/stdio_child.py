"""Serves one agent on stdin and stdout over the tests' pipeline; printing must not disturb the protocol."""

import asyncio

import conftest

from gateway_core.config import ProxyConfig


async def main() -> None:
    downstream, _, catalog = conftest.downstream_for(ProxyConfig(drain_timeout=2.0))
    server = downstream.stdio_server()
    serving = asyncio.ensure_future(server.run())
    await asyncio.sleep(0)
    print("noise on stdout", flush=True)

    async def watch() -> None:
        while True:
            await asyncio.sleep(0.2)
            catalog.change("tools")

    watching = asyncio.ensure_future(watch())
    await serving
    watching.cancel()


asyncio.run(main())
