"""The one function that every call goes through, from an agent's params to the result that it gets.

Decode the envelope of the params, `before_call` in order, look up the target, route and deliver inside one
deadline, `after_call` in reverse, bridge to the agent's era, one line in the log. Nothing else decides anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from dataclasses import replace as _replace
from typing import Any, Final

from loguru import logger
from msgspec import Raw

from gateway_core import jsonrpc
from gateway_core.catalog import SERVER_INFO, Catalog, Target
from gateway_core.chain import Chain, Passed
from gateway_core.config import ProxyConfig
from gateway_core.errors import (
    CANCELLED,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    PLUGIN_FAILED,
    RESOURCE_NOT_FOUND_LEGACY,
    UPSTREAM_UNAVAILABLE,
    RpcError,
)
from gateway_core.exchange import Exchange
from gateway_core.router import IDEMPOTENCY_KEY, Request, Router, unknown_outcome
from gateway_core.types import Call, CallResult, Outcome, Reject
from gateway_core.upstream.bridge import bridge_result

LISTS: Final = frozenset({"tools/list", "resources/list", "resources/templates/list", "prompts/list"})
METHODS: Final = LISTS | {"tools/call", "resources/read", "prompts/get", "completion/complete"}
"""Everything the pipeline answers; other methods are between the agent and the gateway."""

_RESERVED_PREFIX: Final = "io.modelcontextprotocol/"


@dataclass(slots=True)
class _Progress:
    """How far a call came, for whoever has to end it early."""

    call: Call | None = None
    passed: Passed | None = None


class Pipeline:
    """Serves calls. `in_flight` and `calls` are for status."""

    def __init__(
        self, config: ProxyConfig, catalog: Catalog, router: Router, chain: Chain, settle: Callable[[], Awaitable[None]]
    ) -> None:
        """`settle` waits, shortly after the start, for upstreams that were not tried yet."""
        self._config = config
        self._catalog = catalog
        self._router = router
        self._chain = chain
        self._settle = settle
        self.in_flight = 0
        self.calls = 0
        self._idle = asyncio.Event()

    async def wait_idle(self, timeout: float) -> bool:
        """Wait until no call is in flight, `timeout` seconds at most; tells whether that came about."""
        try:
            async with asyncio.timeout(timeout):
                while self.in_flight:
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def call(self, exchange: Exchange, params: bytes) -> CallResult:
        """Serve one request. `params` is the JSON of its params, empty when it has none.

        The result is already in the agent's era. Never raises, except `CancelledError` when the agent cancelled:
        by then the upstream has been told and every `after_call` that was due has run.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        exchange.hard_deadline = started + self._config.max_timeout
        progress = _Progress()
        self.calls += 1
        self.in_flight += 1
        result = CallResult.failed(RpcError.of_gateway(CANCELLED, "cancelled"), Outcome.CANCELLED)
        try:
            result = await self._until_deadline(exchange, params, progress)
            return result
        except asyncio.CancelledError:
            if progress.passed is not None:
                await self._chain.after(progress.passed, result)
            raise
        finally:
            self.in_flight -= 1
            if not self.in_flight:
                self._idle.set()
            _log(exchange, progress.call, result, loop.time() - started)

    async def _until_deadline(self, exchange: Exchange, params: bytes, progress: _Progress) -> CallResult:
        try:
            async with asyncio.timeout(self._config.timeout) as exchange.timeout:
                result = await self._serve(exchange, params, progress)
        except TimeoutError:
            result = self._timed_out(exchange, progress)
        except RpcError as error:
            outcome = Outcome.REFUSED if error.code == PLUGIN_FAILED else Outcome.ERROR
            result = CallResult.failed(error, outcome)
        except Exception:  # noqa: BLE001 - one call's bug must end that call only
            logger.exception("exchange {}: a bug in the gateway", exchange.id)
            result = CallResult.failed(
                RpcError.of_gateway(INTERNAL_ERROR, f"internal error of the gateway, see its log for {exchange.id}")
            )
        if progress.passed is not None:
            result = await self._chain.after(progress.passed, result)
        return self._bridged(exchange, result)

    async def _serve(self, exchange: Exchange, params: bytes, progress: _Progress) -> CallResult:
        call = progress.call = _decode(exchange, params)
        if not self._chain.wants(exchange.method):
            return await self._answer(call, exchange)
        call = self._with_tool(call)
        if call.tool is None:
            await self._settle()
            call = self._with_tool(call)
        progress.call = call
        progress.passed = Passed()
        call, verdict, _ = await self._chain.before(call, self._with_tool, progress.passed)
        progress.call = call
        if isinstance(verdict, Reject):
            return _rejected(verdict)
        if verdict is not None:
            return verdict
        return await self._answer(call, exchange)

    def _answer(self, call: Call, exchange: Exchange) -> Awaitable[CallResult]:
        return _HANDLERS[call.method](self, call, exchange)

    def _with_tool(self, call: Call) -> Call:
        """The call with the catalog's entry for its name; asked again whenever a plugin has rewritten it."""
        if call.method != "tools/call":
            return call
        target = self._catalog.tool(call.name)
        tool = target.tool if target is not None else None
        return call if call.tool is tool else _replace(call, tool=tool)

    # -- the methods --------------------------------------------------------------------------------------------

    async def _list(self, call: Call, exchange: Exchange) -> CallResult:
        await self._settle()
        raw_cursor = call._others.get("cursor")
        cursor = None if raw_cursor is None or bytes(raw_cursor) == b"null" else jsonrpc.text(raw_cursor, "cursor")
        era = exchange.agent.era
        return CallResult(raw=self._catalog.page(call.method, era, cursor), era=era)

    async def _call_tool(self, call: Call, exchange: Exchange) -> CallResult:
        target = await self._find(self._catalog.tool, call.name)
        if target is None:
            raise RpcError.of_gateway(INVALID_PARAMS, f"Unknown tool: {call.name}")
        return await self._dispatch(call, exchange, target, {"name": target.original})

    async def _get_prompt(self, call: Call, exchange: Exchange) -> CallResult:
        target = await self._find(self._catalog.prompt, call.name)
        if target is None:
            raise RpcError.of_gateway(INVALID_PARAMS, f"Unknown prompt: {call.name}")
        return await self._dispatch(call, exchange, target, {"name": target.original})

    async def _read_resource(self, call: Call, exchange: Exchange) -> CallResult:
        target = await self._find(self._catalog.resource, call.name)
        if target is None:
            code = RESOURCE_NOT_FOUND_LEGACY if exchange.agent.era == "legacy" else INVALID_PARAMS
            raise RpcError.of_gateway(code, f"Resource not found: {call.name}", uri=call.name)
        return await self._dispatch(call, exchange, target, {"uri": target.original})

    async def _complete(self, call: Call, exchange: Exchange) -> CallResult:
        ref = jsonrpc.members(call._others.get("ref", Raw(b"{}")))
        kind = jsonrpc.text(ref.get("type", Raw(b'""')), "ref.type")
        if kind == "ref/prompt":
            key, target = "name", await self._find(self._catalog.prompt, call.name)
        elif kind == "ref/resource":
            key, target = "uri", await self._find(self._catalog.template, call.name)
        else:
            raise RpcError.of_gateway(INVALID_PARAMS, "ref.type must be 'ref/prompt' or 'ref/resource'")
        if target is None:
            raise RpcError.of_gateway(INVALID_PARAMS, f"Unknown reference: {call.name}")
        ref[key] = Raw(jsonrpc.encode(target.original))
        return await self._dispatch(call, exchange, target, {"ref": ref}, argument_key="argument")

    async def _find(self, lookup: Callable[[str], Target | None], name: str) -> Target | None:
        """Look a name up; shortly after the start, one that nobody has yet may still come."""
        target = lookup(name)
        if target is None:
            await self._settle()
            target = lookup(name)
        return target

    async def _dispatch(
        self,
        call: Call,
        exchange: Exchange,
        target: Target,
        own: Mapping[str, Any],
        *,
        argument_key: str = "arguments",
    ) -> CallResult:
        params: dict[str, Any] = {**call._others, **own}
        if call.raw_arguments:
            params[argument_key] = Raw(call.raw_arguments)
        meta: dict[str, Any] | None = None
        if call.raw_meta:
            members = jsonrpc.members(call.raw_meta)
            meta = {
                key: value
                for key, value in members.items()
                if key != "progressToken" and not key.startswith(_RESERVED_PREFIX)
            }
        if call.method == "tools/call":
            meta = meta or {}
            meta[IDEMPOTENCY_KEY] = exchange.id
        timeout = max(upstream.timeout for upstream in target.upstreams)
        self._set_deadline(exchange, timeout)
        return await self._router.dispatch(call, exchange, target, Request(call.method, params, meta))

    def _set_deadline(self, exchange: Exchange, timeout: float) -> None:
        """Give the exchange the time that its target's upstreams are configured with, within the hard maximum."""
        exchange.idle_limit = timeout
        if timeout != self._config.timeout and exchange.timeout is not None:
            when = asyncio.get_running_loop().time() + timeout
            exchange.timeout.reschedule(min(when, exchange.hard_deadline))

    # -- endings ------------------------------------------------------------------------------------------------

    def _timed_out(self, exchange: Exchange, progress: _Progress) -> CallResult:
        waiting = progress.passed.running if progress.passed is not None else None
        if waiting is not None:
            error = RpcError.of_gateway(PLUGIN_FAILED, f"plugin {waiting} did not decide in time", plugin=waiting)
            return CallResult.failed(error, Outcome.REFUSED)
        if exchange.upstream is None or not exchange.sent:
            where = f"upstream {exchange.upstream}" if exchange.upstream else "the gateway"
            error = RpcError.of_gateway(
                UPSTREAM_UNAVAILABLE, f"the call waited too long in {where} and was not executed", retryAfterMs=1000
            )
            return CallResult.failed(error, Outcome.UNAVAILABLE, exchange.upstream)
        return unknown_outcome(exchange.method, exchange.upstream, "timed out")

    def _bridged(self, exchange: Exchange, result: CallResult) -> CallResult:
        era = exchange.agent.era
        if result.error is not None or (exchange.method in LISTS and result.era == era):
            return result
        try:
            raw = bridge_result(exchange.method, result.raw, from_era=result.era, to_era=era, server=SERVER_INFO)
        except RpcError as error:
            return CallResult.failed(error, Outcome.ERROR, result.upstream)
        return result if raw is result.raw else _replace(result, raw=raw, era=era)


_Handler = Callable[[Pipeline, Call, Exchange], Awaitable[CallResult]]
_HANDLERS: Final[Mapping[str, _Handler]] = {
    **dict.fromkeys(LISTS, Pipeline._list),
    "tools/call": Pipeline._call_tool,
    "prompts/get": Pipeline._get_prompt,
    "resources/read": Pipeline._read_resource,
    "completion/complete": Pipeline._complete,
}

_NAME_KEY: Final[Mapping[str, str]] = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}


def _decode(exchange: Exchange, params: bytes) -> Call:
    """Take the params apart as far as the gateway reads them. Raises `RpcError` for what the protocol forbids."""
    method = exchange.method
    if method not in METHODS:
        raise RpcError.of_gateway(METHOD_NOT_FOUND, f"Method not found: {method}")
    members = jsonrpc.members(params)
    raw_meta = bytes(members.pop("_meta", Raw()))
    name = ""
    key = _NAME_KEY.get(method)
    if key is not None:
        if key not in members:
            raise RpcError.of_gateway(INVALID_PARAMS, f"params.{key} is missing")
        name = jsonrpc.text(members.pop(key), f"params.{key}")
    elif method == "completion/complete":
        ref = jsonrpc.members(members.get("ref", Raw(b"{}")))
        name = jsonrpc.text(ref.get("name") or ref.get("uri") or Raw(b'""'), "params.ref")
    arguments = bytes(members.pop("argument" if method == "completion/complete" else "arguments", Raw()))
    if arguments == b"null":
        arguments = b""
    if arguments and arguments[:1] != b"{":
        raise RpcError.of_gateway(INVALID_PARAMS, "params.arguments must be an object")
    return Call(
        method=method,
        name=name,
        principal=exchange.agent.principal,
        era=exchange.agent.era,
        exchange_id=exchange.id,
        raw_arguments=arguments,
        raw_meta=raw_meta,
        _others=members,
    )


def _rejected(verdict: Reject) -> CallResult:
    data: dict[str, Any] = {}
    if verdict.retry_after is not None:
        data["retryAfterMs"] = max(0, round(verdict.retry_after * 1000))
    return CallResult.failed(RpcError.of_gateway(verdict.code, verdict.message, **data), Outcome.REFUSED)


def _log(exchange: Exchange, call: Call | None, result: CallResult, seconds: float) -> None:
    """One line a call, metadata only: who, what, where, how long, how it ended."""
    fields: dict[str, Any] = {
        "exchange": exchange.id,
        "agent": exchange.agent.principal.id,
        "outcome": result.outcome.value,
        "ms": round(seconds * 1000, 1),
    }
    upstream = result.upstream or exchange.upstream
    if upstream is not None:
        fields["upstream"] = upstream
    if result.error is not None:
        fields["code"] = result.error.code
    name = call.name if call is not None else ""
    logger.bind(**fields).info(f"{exchange.method} {name}" if name else exchange.method)
