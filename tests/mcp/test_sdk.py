"""The official SDK, as it is loaded while the gateway serves."""

import subprocess
import sys

import pytest

SCRIPT = """
import asyncio, sys
from gateway_core.mcp.sdk import SDK

async def main():
    loading = asyncio.ensure_future(WAY)
    turns = 0
    while "mcp.shared.inbound" not in sys.modules or not SDK._loaded:
        turns += 1
        await asyncio.sleep(0)
    await loading
    assert turns > 20, turns

async def soon():
    SDK.load_soon()

assert not any(name.partition(".")[0] == "mcp" for name in sys.modules)
asyncio.run(main())
SDK.load_soon()
asyncio.run(SDK.load())
"""


@pytest.mark.parametrize("way", ["SDK.load()", "soon()"])
def test_the_event_loop_goes_on_while_the_sdk_is_loaded(way: str) -> None:
    subprocess.run([sys.executable, "-c", SCRIPT.replace("WAY", way)], check=True, timeout=50)
