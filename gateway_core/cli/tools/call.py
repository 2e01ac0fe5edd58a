"""`rad mcp proxy call`: calls one tool, as an agent of the running gateway or through a temporary gateway."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from gateway_core.cli.client import fetch
from gateway_core.cli.hints import command
from gateway_core.cli.instance import Instance
from gateway_core.cli.locate import UsageError, locate
from gateway_core.cli.report import Failed, put, put_json, say
from gateway_core.cli.running import NotAnswering, instance_of
from gateway_core.cli.settings import local_gateway
from gateway_core.cli.tools.arguments import Given, check_text, read_arguments
from gateway_core.cli.tools.listing import near_name, tool_page, tools_page
from gateway_core.cli.tools.questions import Terminal, answer
from gateway_core.cli.tools.tls import ClientFiles, context_for
from gateway_core.config import Config, load
from gateway_core.errors import INVALID_PARAMS
from gateway_core.log.escaping import escape
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import OUTCOME_KEY
from gateway_core.upstream.user_logins.login_tool import login_tool_name

if TYPE_CHECKING:
    from mcp import ClientSession
    from mcp_types import CallToolResult, ElicitResult

NO_FILES: Final = ClientFiles()
CONNECT_TIMEOUT: Final = 5.0
ANSWER_GRACE: Final = 40.0
"""Seconds added to the gateway's `max_timeout`, for the handshake, the list of tools and the response."""
CHECK_INTERVAL: Final = 2.0
"""Seconds between two looks at whether the gateway still answers during a call."""
CREDENTIAL_VARIABLE: Final = "RADIUM_TOKEN"
"""Environment variable with a key or token, which a running gateway gets as `Authorization: Bearer`."""
MAX_ROUNDS: Final = 10
"""Rounds of questions that one call may take."""
MISSED_CHECKS: Final = 3
"""Looks in a row without an answer after which the gateway counts as frozen."""


def call(
    config: Path | None,
    name: str,
    *,
    args: Sequence[str],
    data: str | None,
    profile: str = "",
    as_json: bool,
    client: ClientFiles = NO_FILES,
) -> None:
    """Call `name` and print its result. Raises `Failed` for an error and for a result with `isError`.

    `profile`: the one at whose address to call; empty for the address without one.
    """
    check_text(name)
    check_text(profile)
    given = read_arguments(args, data)
    path = locate(config)
    running = instance_of(path)
    client.check(tls=running is not None and bool(running.certificate))
    if running is not None:
        status = fetch(running, "status")  # detects a hanging gateway before the call
        limit = _limit(status)
        tls = context_for(running.certificate, status, client) if running.certificate else None
        seen = profile or str(status.get("default_profile") or "")
        arguments = given.for_tool(fetch(running, tool_page(name, seen))["definition"])
        answer = asyncio.run(_through(running, name, arguments, limit, tls, profile=profile))
        if _is_unknown(answer):
            listed, every = (fetch(running, tools_page(one))["tools"] for one in (seen, ""))
            _propose(answer, name, listed, every, status["upstreams"])
    else:
        say("no gateway is running for this file: connecting to its upstreams …")
        answer = asyncio.run(_directly(load(path), profile, name, given))
    if as_json:
        put_json(answer.get("result", {"error": answer.get("error")}))
    _finish(answer, quiet=as_json)


def _is_unknown(answer: dict[str, Any]) -> bool:
    """Whether the gateway says that no upstream has the tool."""
    error = answer.get("error") or {}
    data = error.get("data")
    is_own = error.get("code") == INVALID_PARAMS and isinstance(data, dict) and data.get("source") == "gateway"
    return is_own and str(error.get("message")).startswith("Unknown tool")


def _propose(
    answer: dict[str, Any],
    name: str,
    seen: Sequence[Mapping[str, Any]],
    every: Sequence[Mapping[str, Any]],
    upstreams: Sequence[Mapping[str, Any]],
) -> None:
    """Add to the error for an unknown tool: the most similar name, that it is hidden from this caller, or which
    upstreams list their tools only after a login.

    `seen`: the tools in the profile of the call. `every`: all tools. `upstreams`: as the status has them.
    """
    error = answer["error"]
    if any(name == tool["name"] for tool in (*seen, *every)):
        hint = "the gateway has it, and a plugin or a profile hides it from this caller"
    else:
        close = near_name(name, seen)
        hint = f"did you mean {close}?" if close else _logins(upstreams)
    if hint:
        answer["error"] = {**error, "message": f"{error['message']}; {hint}"}


def _logins(upstreams: Sequence[Mapping[str, Any]]) -> str:
    """Which upstreams need a login before they list their tools, and how to log in; empty if none does."""
    steps = [
        f"{one['name']}: {_login_command(one['name'], of_users=login['users'] is not None)}"
        for one in upstreams
        if (login := one.get("login")) is not None and login["needed"]
    ]
    return f"these upstreams list their tools after a login; to log in at {'; '.join(steps)}" if steps else ""


def _login_command(upstream: str, *, of_users: bool) -> str:
    return command(f"call {upstream}:{login_tool_name(upstream)}" if of_users else f"login {upstream}")


def _limit(status: dict[str, Any]) -> float:
    """Seconds to wait for the gateway; longer than its own deadlines."""
    longest = status.get("max_timeout")
    return (float(longest) if isinstance(longest, int | float) else 300.0) + ANSWER_GRACE


async def _through(
    instance: Instance,
    name: str,
    arguments: dict[str, Any],
    limit: float,
    tls: ssl.SSLContext | None,
    *,
    profile: str,
) -> dict[str, Any]:
    """Call as an agent of the running gateway; returns `{"result"}` or `{"error"}`.

    Raises `NotAnswering` after `limit` seconds, or earlier if the gateway no longer answers its control plane, and
    `Failed` for any other failure.
    """
    calling = asyncio.ensure_future(_as_agent(instance, name, arguments, limit, tls, profile=profile))
    missed = 0
    while not (await asyncio.wait({calling}, timeout=CHECK_INTERVAL))[0]:
        try:
            await asyncio.to_thread(fetch, instance, "status")
            missed = 0
        except NotAnswering as error:
            missed += 1
            if missed >= MISSED_CHECKS and not calling.done():
                calling.cancel()
                await asyncio.wait({calling}, timeout=CHECK_INTERVAL)
                first, *hints = str(error).splitlines()
                raise NotAnswering("\n".join([f"{first}; the call may have run", *hints])) from None
    return calling.result()


async def _as_agent(
    instance: Instance,
    name: str,
    arguments: dict[str, Any],
    limit: float,
    tls: ssl.SSLContext | None,
    *,
    profile: str,
) -> dict[str, Any]:
    """The call with the official client. Questions go to the person at the terminal, if there is one."""
    import httpx2  # noqa: PLC0415 - slow to load, and only this command needs it
    from mcp import Client, MCPError  # noqa: PLC0415
    from mcp.client.streamable_http import streamable_http_client  # noqa: PLC0415
    from mcp_types import ElicitResult, Implementation  # noqa: PLC0415
    from pydantic import ValidationError  # noqa: PLC0415

    person = Terminal() if Terminal.available() else None

    async def ask(context: object, params: Any) -> ElicitResult:
        assert person is not None, "only then the client declares that it can be asked"
        deadline.reschedule(None)  # the gateway limits the time for an answer
        try:
            return ElicitResult.model_validate(await answer(person, params))
        finally:
            deadline.reschedule(asyncio.get_running_loop().time() + limit)

    # Reads have no timeout, because `limit` covers the whole call. Proxies of the environment are ignored.
    timeout = httpx2.Timeout(None, connect=CONNECT_TIMEOUT)
    token = os.environ.get(CREDENTIAL_VARIABLE) or None
    if token is not None and not (token.isascii() and token.isprintable()):
        raise UsageError(f"{CREDENTIAL_VARIABLE} has characters that are in no key or token")
    path = f"/p/{quote(profile, safe='')}" if profile else ""
    refusals: list[str] = []
    where = f"the running gateway (pid {instance.pid}, {instance.address})"

    async def note_refusal(response: httpx2.Response) -> None:
        # The client drops errors without a request id, such as those for a request that the gateway does not read.
        if response.is_error:
            refusals.extend(_refusal(await response.aread()))
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            wrong = "none is set" if token is None else "it is refused"
            other = "" if tls is None else ", or with a client certificate (--client-cert)"
            way = f"with the key or token in {CREDENTIAL_VARIABLE}; {wrong}"
            refusals.append(f"authentication is required, {way}{other}")
        if profile and response.status_code == HTTPStatus.NOT_FOUND:
            refusals.append(f"the address of profile {profile} is closed, or this caller may not use the profile")

    try:
        async with (
            asyncio.timeout(limit) as deadline,
            httpx2.AsyncClient(
                headers={} if token is None else {"Authorization": f"Bearer {token}"},
                trust_env=False,
                timeout=timeout,
                event_hooks={"response": [note_refusal]},
                verify=tls or True,
            ) as http,
            Client(
                streamable_http_client(f"{instance.address}/mcp{path}", http_client=http),
                client_info=Implementation(name="rad", version=version("gateway-core")),
                elicitation_callback=None if person is None else ask,
            ) as client,
        ):
            await client.list_tools()  # the client mirrors arguments into headers if the listed schema says so
            refusals.clear()
            try:
                result = await _answered(client.session, name, arguments, ask)
            except MCPError as error:
                found = error.error.model_dump(mode="json", by_alias=True, exclude_none=True)
                return {"error": {**found, "message": refusals[-1]} if refusals else found}
            return {"result": result.model_dump(mode="json", by_alias=True, exclude_none=True)}
    except TimeoutError:
        raise NotAnswering(
            f"{where}: no answer within {limit:g} s; the call may have run\n  to see what is wrong: {command('status')}"
        ) from None
    except ValidationError as error:
        raise Failed(f"the running gateway (pid {instance.pid}) did not answer with a tool result") from error
    except (httpx2.HTTPError, MCPError, OSError, ExceptionGroup) as error:
        inner = _innermost(error)
        reason = str(inner) or type(inner).__name__
        if tls is not None and isinstance(inner, httpx2.ReadError | httpx2.WriteError | httpx2.RemoteProtocolError):
            # In TLS 1.3 a server refuses a certificate after the handshake has ended for the client.
            reason = "it ended the connection; it does so if it refuses the certificate of --client-cert"
        raise Failed(f"{where}: {[reason, *refusals][-1]}") from error


async def _answered(
    session: ClientSession, name: str, arguments: dict[str, Any], ask: Callable[[object, Any], Awaitable[ElicitResult]]
) -> CallToolResult:
    """The result of the call, after at most `MAX_ROUNDS` rounds of questions, which go to `ask` one by one."""
    from mcp_types import CallToolRequest, CallToolRequestParams, CallToolResult, InputRequiredResult  # noqa: PLC0415
    from pydantic import TypeAdapter  # noqa: PLC0415

    answers: dict[str, Any] | None = None
    state: str | None = None
    for _ in range(MAX_ROUNDS):
        params = CallToolRequestParams(name=name, arguments=arguments, input_responses=answers, request_state=state)
        # Not `call_tool`: it lists the tools again to validate a result, which is lost if the gateway stops in between.
        result = await session.send_request(
            CallToolRequest(params=params), TypeAdapter[Any](InputRequiredResult | CallToolResult)
        )
        if isinstance(result, CallToolResult):
            return result
        state, answers = result.request_state, {}
        for key, request in (result.input_requests or {}).items():
            answers[key] = await ask(None, request.params)
    raise Failed(f"the call asked questions in more than {MAX_ROUNDS} rounds")


def _refusal(body: bytes) -> list[str]:
    """The message of a JSON-RPC error without an id, as a list; empty for any other body."""
    try:
        value = json.loads(body)
        return [] if "id" in value else [str(value["error"]["message"])]
    except (ValueError, RecursionError, TypeError, LookupError):
        return []


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _directly(config: Config, profile: str, name: str, given: Given) -> dict[str, Any]:
    from gateway_core.downstream.auth.profiles import default_profile  # noqa: PLC0415 - a running gateway decides itself

    seen = profile or default_profile(config.proxy.profiles)
    async with local_gateway(config) as gateway:
        arguments = given.for_tool(gateway.tool(name, seen)["definition"])
        answer = await gateway.call_once(name, arguments, seen)
        known = gateway.tools(seen)["tools"], gateway.tools()["tools"], gateway.status()["upstreams"]
    if answer.error is not None:
        error = answer.error
        found = {"error": {"code": error.code, "message": error.message, "data": error.data}}
        if _is_unknown(found):
            _propose(found, name, *known)
        return found
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
        unknown = (result.get("_meta") or {}).get(OUTCOME_KEY) == "unknown"
        raise Failed("the outcome is unknown" if unknown else "the tool reports an error")


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
