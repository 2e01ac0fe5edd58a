"""A reference server of the legacy era only, on the last SDK that knew no other. Needs a venv of its own."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakSet

import offer
import serve
from mcp import types
from mcp.server.fastmcp.server import StreamableHTTPASGIApp
from mcp.server.lowlevel.server import NotificationOptions, Server
from mcp.server.models import InitializationOptions
from mcp.server.session import ServerSession
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.exceptions import McpError
from mcp.shared.message import ServerMessageMetadata
from pydantic import AnyUrl
from starlette.applications import Starlette
from starlette.routing import Route

REQUESTS: dict[str, tuple[type[Any], type[Any]]] = {
    "elicitation/create": (types.ElicitRequest, types.ElicitResult),
    "sampling/createMessage": (types.CreateMessageRequest, types.CreateMessageResult),
    "roots/list": (types.ListRootsRequest, types.ListRootsResult),
}
sessions: WeakSet[ServerSession] = WeakSet()
watching: set[str] = set()


class Caller:
    """One call."""

    passes: tuple[type[Exception], ...] = ()
    server = "reference-legacy"

    def __init__(self) -> None:
        self._context = server.request_context
        opening = self._context.session.client_params
        self.capabilities = opening.capabilities.model_dump(exclude_none=True) if opening is not None else {}

    async def log(self, text: str) -> None:
        await self._context.session.send_log_message("info", text, related_request_id=self._context.request_id)

    async def progress(self, done: float, total: float) -> None:
        token = self._context.meta.progressToken if self._context.meta is not None else None
        if token is not None:
            related = str(self._context.request_id)
            await self._context.session.send_progress_notification(token, done, total, related_request_id=related)

    async def ask(self, requests: Mapping[str, offer.Json], *, state: str | None = None) -> Mapping[str, offer.Json]:
        offer.require(self, requests)
        return {key: await self._ask_now(request) for key, request in requests.items()}

    async def _ask_now(self, request: offer.Json) -> offer.Json:
        kind, answer = REQUESTS[request["method"]]
        related = ServerMessageMetadata(related_request_id=self._context.request_id)
        sent = types.ServerRequest(kind.model_validate(request))
        try:
            result = await self._context.session.send_request(sent, answer, metadata=related)
        except McpError as error:
            raise offer.RefusedError(error.error.code, error.error.message, error.error.data) from None
        made: offer.Json = result.model_dump(by_alias=True, mode="json", exclude_none=True)
        return made

    async def changed(self, what: str) -> None:
        for session in list(sessions):
            if what == "tools":
                await session.send_tool_list_changed()
            elif what == "prompts":
                await session.send_prompt_list_changed()
            elif what in watching:
                await session.send_resource_updated(AnyUrl(what))

    async def hang_up(self) -> None:
        if self._context.close_sse_stream is not None:
            await self._context.close_sse_stream()


class Reference(Server[Any, Any]):
    """Declares what the SDK leaves out: lists that change, and resources that can be subscribed to."""

    def create_initialization_options(self, *given: Any, **options: Any) -> InitializationOptions:
        changing = NotificationOptions(prompts_changed=True, tools_changed=True)
        made = super().create_initialization_options(changing)
        if made.capabilities.resources is not None:
            made.capabilities.resources.subscribe = True
        return made


server = Reference(Caller.server, version="1.0.0")


def answers(request: type[Any], result: type[Any]) -> Callable[[Callable[[Any], Awaitable[offer.Json]]], None]:
    """Register a function of the request's parameters that returns the result as it is on the wire."""

    def register(function: Callable[[Any], Awaitable[offer.Json]]) -> None:
        async def handle(received: Any) -> types.ServerResult:
            sessions.add(server.request_context.session)
            try:
                return types.ServerResult(result.model_validate(await function(received.params)))
            except offer.UnsupportedError as error:
                raise McpError(types.ErrorData(code=-32021, message=str(error), data=error.data)) from None
            except offer.RefusedError as error:
                raise McpError(types.ErrorData(code=error.code, message=str(error), data=error.data)) from None
            except offer.MissingError as error:
                data = {"uri": str(received.params.uri)} if request is types.ReadResourceRequest else None
                code = -32602 if data is None else -32002
                raise McpError(types.ErrorData(code=code, message=str(error), data=data)) from None

        server.request_handlers[request] = handle

    return register


@answers(types.ListToolsRequest, types.ListToolsResult)
async def list_tools(params: Any) -> offer.Json:
    return {"tools": offer.tools()}


@answers(types.ListPromptsRequest, types.ListPromptsResult)
async def list_prompts(params: Any) -> offer.Json:
    return {"prompts": offer.prompts()}


@answers(types.ListResourcesRequest, types.ListResourcesResult)
async def list_resources(params: Any) -> offer.Json:
    return {"resources": offer.RESOURCES}


@answers(types.ListResourceTemplatesRequest, types.ListResourceTemplatesResult)
async def list_templates(params: Any) -> offer.Json:
    return {"resourceTemplates": offer.TEMPLATES}


@answers(types.CallToolRequest, types.CallToolResult)
async def call_tool(params: types.CallToolRequestParams) -> offer.Json:
    return await offer.call(Caller(), params.name, params.arguments or {})


@answers(types.GetPromptRequest, types.GetPromptResult)
async def get_prompt(params: types.GetPromptRequestParams) -> offer.Json:
    return await offer.get_prompt(Caller(), params.name, params.arguments or {})


@answers(types.ReadResourceRequest, types.ReadResourceResult)
async def read_resource(params: types.ReadResourceRequestParams) -> offer.Json:
    return offer.read(str(params.uri))


@answers(types.CompleteRequest, types.CompleteResult)
async def complete(params: types.CompleteRequestParams) -> offer.Json:
    return offer.complete(params.argument.value)


@answers(types.SubscribeRequest, types.EmptyResult)
async def subscribe(params: types.SubscribeRequestParams) -> offer.Json:
    watching.add(str(params.uri))
    return {}


@answers(types.UnsubscribeRequest, types.EmptyResult)
async def unsubscribe(params: types.UnsubscribeRequestParams) -> offer.Json:
    watching.discard(str(params.uri))
    return {}


@answers(types.SetLevelRequest, types.EmptyResult)
async def set_level(params: types.SetLevelRequestParams) -> offer.Json:
    return {}


async def stdio() -> None:
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


def app() -> Starlette:
    local = TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=["127.0.0.1:*", "localhost:*", "[::1]:*"],
        allowed_origins=["http://127.0.0.1:*", "http://localhost:*", "http://[::1]:*"],
    )
    manager = StreamableHTTPSessionManager(
        server, event_store=serve.Events(), security_settings=local, retry_interval=serve.RETRY_INTERVAL
    )

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with manager.run():
            yield

    return Starlette(routes=[Route("/mcp", endpoint=StreamableHTTPASGIApp(manager))], lifespan=lifespan)


if __name__ == "__main__":
    serve.run(serve.arguments("A reference server of the legacy era only.").port, app, stdio)
