"""A reference server that speaks nothing but 2026-07-28: the one of both eras, with the handshake refused.

`--no-result-type` leaves out the `resultType` of complete results, as servers that predate its being required do.
"""

from typing import Any

import dual
import mcp_types as types
import serve
from mcp.server.context import CallNext
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS


async def refuse_handshake(ctx: dual.Context, call_next: CallNext) -> Any:
    if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS:
        asked = (ctx.params or {}).get("protocolVersion", "")
        versions = {"supported": list(MODERN_PROTOCOL_VERSIONS), "requested": asked}
        raise MCPError(types.UNSUPPORTED_PROTOCOL_VERSION, "This server has no handshake", versions)
    return await call_next(ctx)


async def leave_out_result_type(ctx: dual.Context, call_next: CallNext) -> Any:
    result = await call_next(ctx)
    if isinstance(result, dict) and result.get("resultType") == "complete":
        return {key: value for key, value in result.items() if key != "resultType"}
    return result


if __name__ == "__main__":
    options = serve.arguments("A reference server of the modern era only.", "--no-result-type")
    server = dual.build("reference-modern")
    server.middleware.insert(0, refuse_handshake)
    if options.no_result_type:
        server.middleware.insert(0, leave_out_result_type)
    dual.run(server, options.port)
