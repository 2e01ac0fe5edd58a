"""A reference server of both eras, on the current SDK; `modern.py` makes the modern-only one of it."""

import json
from collections import deque
from collections.abc import Awaitable, Mapping
from functools import partial
from typing import Any

import mcp_types as types
import offer
import serve
import tasking
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import NotificationOptions, Server
from mcp.server.models import InitializationOptions
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.session import ServerSession
from mcp.server.stdio import stdio_server
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    PromptsListChanged,
    ResourceUpdated,
    ToolsListChanged,
)
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

Context = ServerRequestContext[Any, Any]
REQUESTS: dict[str, tuple[type[Any], type[Any]]] = {
    "elicitation/create": (types.ElicitRequest, types.ElicitResult),
    "sampling/createMessage": (types.CreateMessageRequest, types.CreateMessageResult),
    "roots/list": (types.ListRootsRequest, types.ListRootsResult),
}
bus = InMemorySubscriptionBus()
sessions: deque[ServerSession] = deque(maxlen=100)
"""Of the legacy clients; one that is gone does not mind being told something."""
watching: set[str] = set()


class AskError(Exception):
    """A modern call ends here, with a question."""

    def __init__(self, result: offer.Json) -> None:
        super().__init__("input is required")
        self.result = result


class Caller:
    """One call, of either era."""

    passes = (AskError,)

    def __init__(self, server: str, context: Context, params: Any) -> None:
        self.server = server
        self._context = context
        self._modern = context.protocol_version in MODERN_PROTOCOL_VERSIONS
        declared = context.session.client_capabilities
        self.capabilities = declared.model_dump(by_alias=True, exclude_none=True) if declared is not None else {}
        self._rounds: list[Any] = json.loads(params.request_state) if params.request_state else []
        self._round = 0
        answers = params.input_responses or {}
        self._answers = {key: answer.model_dump(by_alias=True, exclude_none=True) for key, answer in answers.items()}

    async def log(self, text: str) -> None:
        await self._context.session.send_log_message("info", text, related_request_id=self._context.request_id)

    async def progress(self, done: float, total: float) -> None:
        await self._context.session.report_progress(done, total)

    async def ask(self, requests: Mapping[str, offer.Json], *, state: str | None = None) -> Mapping[str, offer.Json]:
        offer.require(self, requests)
        if not self._modern:
            return {key: await self._ask_now(request) for key, request in requests.items()}
        return self._asked_before(requests, state)

    def _asked_before(self, requests: Mapping[str, offer.Json], state: str | None) -> Mapping[str, offer.Json]:
        """Each call starts from the beginning: the state holds the answers of the rounds before the last one.

        A last element that is a text is the name of the question that is open.
        """
        number, self._round = self._round, self._round + 1
        earlier = [each for each in self._rounds if not isinstance(each, str)]
        if number < len(earlier):
            return dict(earlier[number])
        asked = not state or (bool(self._rounds) and self._rounds[-1] == state)
        if number == len(earlier) and asked and requests.keys() <= self._answers.keys():
            answered = {key: self._answers[key] for key in requests}
            self._rounds = [*earlier, answered]
            return answered
        result = {"resultType": "input_required", "inputRequests": dict(requests)}
        kept = [*earlier, state] if state else earlier
        raise AskError({**result, "requestState": json.dumps(kept)} if kept else result)

    async def _ask_now(self, request: offer.Json) -> offer.Json:
        kind, answer = REQUESTS[request["method"]]
        related = ServerMessageMetadata(related_request_id=self._context.request_id)
        try:
            result = await self._context.session.send_request(kind.model_validate(request), answer, metadata=related)
        except MCPError as error:
            raise offer.RefusedError(error.code, str(error), error.data) from None
        made: offer.Json = result.model_dump(by_alias=True, exclude_none=True)
        return made

    async def changed(self, what: str) -> None:
        events: dict[str, Any] = {"tools": ToolsListChanged(), "prompts": PromptsListChanged()}
        await bus.publish(events.get(what) or ResourceUpdated(uri=what))
        for session in list(sessions):
            if what == "tools":
                await session.send_tool_list_changed()
            elif what == "prompts":
                await session.send_prompt_list_changed()
            elif what in watching:
                await session.send_resource_updated(what)

    async def hang_up(self) -> None:
        if self._context.close_sse_stream is not None:
            await self._context.close_sse_stream()


class Reference(Server[Any]):
    """Tells legacy clients that its lists change."""

    def create_initialization_options(self, *given: Any, **options: Any) -> InitializationOptions:
        changing = NotificationOptions(prompts_changed=True, tools_changed=True)
        return super().create_initialization_options(changing)


async def list_tools(context: Context, params: Any) -> types.ListToolsResult:
    return types.ListToolsResult.model_validate({"tools": offer.tools()})


async def list_prompts(context: Context, params: Any) -> types.ListPromptsResult:
    return types.ListPromptsResult.model_validate({"prompts": offer.prompts()})


async def list_resources(context: Context, params: Any) -> types.ListResourcesResult:
    return types.ListResourcesResult.model_validate({"resources": offer.RESOURCES})


async def list_templates(context: Context, params: Any) -> types.ListResourceTemplatesResult:
    return types.ListResourceTemplatesResult.model_validate({"resourceTemplates": offer.TEMPLATES})


async def _result(made: Awaitable[offer.Json], kind: type[types.Result]) -> Any:
    """A result of this kind, a question or a task in its place, or the error of the protocol."""
    try:
        result = await made
        return result if "taskId" in result else kind.model_validate(result)
    except AskError as question:
        return types.InputRequiredResult.model_validate(question.result)
    except offer.UnsupportedError as error:
        raise MCPError(types.MISSING_REQUIRED_CLIENT_CAPABILITY, str(error), error.data) from None
    except offer.RefusedError as error:
        raise MCPError(error.code, str(error), error.data) from None
    except offer.MissingError as error:
        raise MCPError(types.INVALID_PARAMS, str(error)) from None


async def call_tool(name: str, context: Context, params: types.CallToolRequestParams) -> Any:
    caller, arguments = Caller(name, context, params), params.arguments or {}
    if tasking.becomes_task(context, params.name):
        return await _result(tasking.begin(caller, params.name, arguments), types.CallToolResult)
    return await _result(offer.call(caller, params.name, arguments), types.CallToolResult)


async def get_prompt(name: str, context: Context, params: types.GetPromptRequestParams) -> Any:
    made = offer.get_prompt(Caller(name, context, params), params.name, params.arguments or {})
    return await _result(made, types.GetPromptResult)


async def read_resource(context: Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
    try:
        return types.ReadResourceResult.model_validate(offer.read(params.uri))
    except offer.MissingError as error:
        modern = context.protocol_version in MODERN_PROTOCOL_VERSIONS
        raise MCPError(types.INVALID_PARAMS if modern else -32002, str(error), {"uri": params.uri}) from None


async def complete(context: Context, params: types.CompleteRequestParams) -> types.CompleteResult:
    return types.CompleteResult.model_validate(offer.complete(params.argument.value))


async def subscribe(context: Context, params: types.SubscribeRequestParams) -> types.EmptyResult:
    watching.add(params.uri)
    return types.EmptyResult()


async def unsubscribe(context: Context, params: types.UnsubscribeRequestParams) -> types.EmptyResult:
    watching.discard(params.uri)
    return types.EmptyResult()


async def set_level(context: Context, params: types.SetLevelRequestParams) -> types.EmptyResult:
    return types.EmptyResult()


async def initialized(context: Context, params: Any) -> None:
    sessions.append(context.session)


def build(name: str) -> Reference:
    server = Reference(
        name,
        version="1.0.0",
        on_list_tools=list_tools,
        on_call_tool=partial(call_tool, name),
        on_list_prompts=list_prompts,
        on_get_prompt=partial(get_prompt, name),
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
        on_completion=complete,
        on_subscribe_resource=subscribe,
        on_unsubscribe_resource=unsubscribe,
        on_subscriptions_listen=ListenHandler(bus),
        get_tool_input_schema=lambda tool: offer.TOOLS[tool][0]["inputSchema"] if tool in offer.TOOLS else None,
    )
    # Not an argument of the constructor, which would warn that the method belongs to the legacy era.
    server.add_request_handler("logging/setLevel", types.SetLevelRequestParams, set_level)
    server.add_notification_handler("notifications/initialized", types.NotificationParams, initialized)
    tasking.extend(server)
    server.middleware.append(RequestStateBoundary(RequestStateSecurity.ephemeral(), default_audience=name))
    return server


def run(server: Reference, port: int | None) -> None:
    async def stdio() -> None:
        async with stdio_server() as (read, write):
            await server.run(read, write, server.create_initialization_options())

    def app() -> Any:
        return server.streamable_http_app(event_store=serve.Events(), retry_interval=serve.RETRY_INTERVAL)

    serve.run(port, app, stdio)


if __name__ == "__main__":
    run(build("reference-dual"), serve.arguments("A reference server of both eras.").port)
