"""Stands for a gateway that is killed: opens a server over stdio and waits. Started as `holder.py FILE`."""

import asyncio
import sys
from pathlib import Path

from gateway_core.config import LimitsConfig, UpstreamConfig
from gateway_core.upstream.base import ClientContext
from gateway_core.upstream.transports.stdio import StdioConnection

FAULTY = str(Path(__file__).with_name("faulty.py"))


async def main() -> None:
    config = UpstreamConfig(
        name="held", transport="stdio", command=sys.executable, args=(FAULTY, "family", sys.argv[1])
    )
    connection = StdioConnection(config, LimitsConfig(), ClientContext(lambda method, params, exchange: None))
    await connection.open("legacy")
    print("open", flush=True)
    await asyncio.sleep(600)


asyncio.run(main())
