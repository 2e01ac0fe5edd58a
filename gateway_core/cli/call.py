"""`rad mcp proxy call`: calls one tool, as an agent of the running gateway or through a temporary gateway."""

from __future__ import annotations

import asyncio
import json
import math
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from gateway_core.cli.client import fetch
from gateway_core.cli.instance import Instance, UsageError, locate
from gateway_core.cli.report import Failed, put, put_json, say
from gateway_core.cli.running import NotAnswering, instance_of
from gateway_core.cli.settings import load_config, local_gateway
from gateway_core.config import Config
from gateway_core.log.escaping import escape
from gateway_core.mcp import jsonrpc

MAX_STDIN: Final = 16 * 1024 * 1024
CONNECT_TIMEOUT: Final = 5.0
ANSWER_GRACE: Final = 40.0
"""Seconds added to the gateway's `max_timeout`, for the handshake, the list of tools and the response."""


def call(config: Path | None, name: str, *, args: Sequence[str], data: str | None, as_json: bool) -> None:
    """Call `name` and print its result. Raises `Failed` for an error and for a result with `isError`."""
    _check_text(name)
    arguments = parse_arguments(args, data)
    path = locate(config)
    running = instance_of(path)
    if running is not None:
        limit = _limit(fetch(running, "status"))  # detects a hanging gateway before the call
        answer = asyncio.run(_through(running, name, arguments, limit))
    else:
        say("no gateway is running for this file: connecting to its upstreams …")
        answer = asyncio.run(_directly(load_config(path), name, arguments))
    if as_json:
        put_json(answer.get("result", {"error": answer.get("error")}))
    _finish(answer, quiet=as_json)


def _stdin() -> str:
    text = sys.stdin.read(MAX_STDIN + 1)
    if len(text) > MAX_STDIN:
        raise UsageError(f"--data -: stdin has more than {MAX_STDIN:,} characters; send smaller arguments")
    return text


def parse_arguments(args: Sequence[str], data: str | None) -> dict[str, Any]:
    """The arguments of `--data JSON` (`-` reads stdin), overridden by those of `--arg key=value`.

    The value of an `--arg` is JSON if it parses, otherwise a string. Raises `UsageError`, also for numbers that are too
    long or out of range.
    """
    arguments: dict[str, Any] = {}
    if data is not None:
        try:
            found = _json(_stdin() if data == "-" else data)
        except ValueError as error:
            raise UsageError(f"--data is not valid JSON: {error}") from None
        if not isinstance(found, dict):
            raise UsageError("""--data must be a JSON object, for example: --data '{"city": "Paris"}'""")
        arguments = found
    seen = set()
    for arg in args:
        key, equals, text = arg.partition("=")
        if not equals or not key:
            raise UsageError(f"--arg {arg}: must be key=value, for example: --arg city=Paris")
        if key in seen:
            raise UsageError(f"--arg {key}: is given twice; a list is JSON: --arg '{key}=[1, 2]'")
        seen.add(key)
        try:
            arguments[key] = _json(text)
        except ValueError:
            arguments[key] = text
    _check_text(arguments)
    return arguments


def _check_text(value: Any) -> None:
    """Raise `UsageError` for text that UTF-8 cannot encode: other bytes on the command line, a lone surrogate."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise UsageError("the tool's name, --arg and --data must be valid UTF-8") from None


def _json(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")  # Python's parser accepts NaN and Infinity

    try:
        return json.loads(text, parse_constant=refuse, parse_int=_integer, parse_float=_finite)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _integer(text: str) -> int:
    if len(text) > jsonrpc.MAX_DIGITS:
        raise UsageError(f"--arg, --data: a number has more than {jsonrpc.MAX_DIGITS} digits")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise UsageError(f"--arg, --data: the number {text[:40]} is out of range")
    return number


def _limit(status: dict[str, Any]) -> float:
    """Seconds to wait for the gateway; longer than its own deadlines."""
    longest = status.get("max_timeout")
    return (float(longest) if isinstance(longest, int | float) else 300.0) + ANSWER_GRACE


async def _through(instance: Instance, name: str, arguments: dict[str, Any], limit: float) -> dict[str, Any]:
    """Call as an agent of the running gateway, with the official client; returns `{"result"}` or `{"error"}`.

    Raises `NotAnswering` after `limit` seconds, and `Failed` for any other failure.
    """
    import httpx2  # noqa: PLC0415 - slow to load, and only this command needs it
    from mcp import Client, MCPError  # noqa: PLC0415
    from mcp.client.streamable_http import streamable_http_client  # noqa: PLC0415
    from mcp_types import CallToolRequest, CallToolRequestParams, CallToolResult, Implementation  # noqa: PLC0415
    from pydantic import ValidationError  # noqa: PLC0415

    # Reads have no timeout, because `limit` covers the whole call. Proxies of the environment are ignored.
    timeout = httpx2.Timeout(None, connect=CONNECT_TIMEOUT)
    refusals: list[str] = []
    where = f"the running gateway (pid {instance.pid}, {instance.address})"

    async def note_refusal(response: httpx2.Response) -> None:
        # The client drops errors without a request id, such as those for a request that the gateway does not read.
        if response.is_error:
            refusals.extend(_refusal(await response.aread()))

    try:
        async with (
            asyncio.timeout(limit),
            httpx2.AsyncClient(trust_env=False, timeout=timeout, event_hooks={"response": [note_refusal]}) as http,
            Client(
                streamable_http_client(f"{instance.address}/mcp", http_client=http),
                client_info=Implementation(name="rad", version=version("gateway-core")),
            ) as client,
        ):
            await client.list_tools()  # the client mirrors arguments into headers if the listed schema says so
            refusals.clear()
            request = CallToolRequest(params=CallToolRequestParams(name=name, arguments=arguments))
            try:
                # Not `call_tool`: it lists the tools again to validate a result, which is lost if the gateway stops
                # in between.
                result = await client.session.send_request(request, CallToolResult)
            except MCPError as error:
                found = error.error.model_dump(mode="json", by_alias=True, exclude_none=True)
                return {"error": {**found, "message": refusals[-1]} if refusals else found}
            return {"result": result.model_dump(mode="json", by_alias=True, exclude_none=True)}
    except TimeoutError:
        raise NotAnswering(
            f"{where}: no answer within {limit:g} s\n"
            "  the call may have run; to see what is wrong: rad mcp proxy status"
        ) from None
    except ValidationError as error:
        raise Failed(f"the running gateway (pid {instance.pid}) did not answer with a tool result") from error
    except (httpx2.HTTPError, MCPError, OSError, ExceptionGroup) as error:
        raise Failed(f"{where}: {[_reason(error), *refusals][-1]}") from error


def _refusal(body: bytes) -> list[str]:
    """The message of a JSON-RPC error without an id, as a list; empty for any other body."""
    try:
        value = json.loads(body)
        return [] if "id" in value else [str(value["error"]["message"])]
    except (ValueError, RecursionError, TypeError, LookupError):
        return []


def _reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__


async def _directly(config: Config, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    async with local_gateway(config) as gateway:
        answer = await gateway.call_once(name, arguments)
    if answer.error is not None:
        error = answer.error
        return {"error": {"code": error.code, "message": error.message, "data": error.data}}
    return {"result": jsonrpc.value(answer.raw)}


def _finish(answer: dict[str, Any], *, quiet: bool) -> None:
    error = answer.get("error")
    if error is not None:
        data = error.get("data")
        more = f"\n{json.dumps(data)}" if data and set(data if isinstance(data, dict) else ()) != {"source"} else ""
        raise Failed(f"{error['message']} (code {error['code']}){more}")
    result = answer["result"]
    if not quiet:
        blocks = result.get("content") or []
        for block in blocks:
            put(_shown(block))
        if not blocks and "structuredContent" in result:
            put_json(result["structuredContent"])
    if result.get("isError"):
        raise Failed("the tool reports an error")


def _shown(block: dict[str, Any]) -> str:
    """A content block as text. On a terminal, control characters of the server's text are escaped."""
    kind = block.get("type")
    resource = block.get("resource") or {}
    text = block.get("text") if kind == "text" else resource.get("text")
    if isinstance(text, str):
        return "\n".join(map(_line, text.split("\n"))) if sys.stdout.isatty() else text
    if kind == "resource_link":
        return f"[link to {escape(str(block.get('uri')))}]"
    if kind == "resource":
        return f"[resource {escape(str(resource.get('uri')))}, {len(resource.get('blob', ''))} characters of base64]"
    media = escape(str(block.get("mimeType", "")))
    return f"[{escape(str(kind))} {media}, {len(str(block.get('data', '')))} characters of base64]"


def _line(text: str) -> str:
    return "\t".join(map(escape, text.split("\t")))
