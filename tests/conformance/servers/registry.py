"""How a reference server's tools and prompts are written down.

No SDK and no era here: shapes are those of the wire, and `Caller` is what a tool can do with whoever called it. So
one tool that asks its user something serves both eras: `ask` sends requests in the middle of a call (legacy), or ends
the call with `input_required` and finds the answers when the call is repeated (modern).
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

TEXT = {"type": "string"}
IMAGE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mP4z8AAAAMBAQD3A0FDAAAAAElFTkSuQmCC"
SOUND = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQIAAAAAAA=="
WATCHED = "test://watched-resource"

Json = dict[str, Any]


class Caller(Protocol):
    """The agent behind a call, as far as a tool may know it."""

    @property
    def server(self) -> str:
        """The name of the server that was called."""
        ...

    @property
    def capabilities(self) -> Mapping[str, Any]: ...

    @property
    def passes(self) -> tuple[type[Exception], ...]:
        """What is no error of the tool when it is raised from one of the methods below."""
        ...

    async def log(self, text: str) -> None: ...

    async def progress(self, done: float, total: float) -> None: ...

    async def ask(self, requests: Mapping[str, Json], *, state: str | None = None) -> Mapping[str, Json]:
        """The answers to some requests by key. `state` is what a modern server has the agent bring back, sealed."""
        ...

    async def changed(self, what: str) -> None:
        """Tell everybody that `tools`, `prompts` or the resource of a URI changed."""
        ...

    async def hang_up(self) -> None:
        """Close the stream of the running call, where there is one that can be resumed."""
        ...


class UnsupportedError(Exception):
    """The caller has not declared a capability that the call needs: an error of the protocol, not of the tool."""

    def __init__(self, capability: str) -> None:
        super().__init__(f"this needs the client capability {capability!r}, which was not declared")
        self.data: Json = {"requiredCapabilities": {capability: {}}}


class RefusedError(Exception):
    """The caller answered a question with an error, which is passed on unless the tool can do without."""

    def __init__(self, code: int, message: str, data: Any) -> None:
        super().__init__(message)
        self.code, self.data = code, data


class MissingError(Exception):
    """There is no such tool, prompt or resource."""


Function = Callable[[Caller, Mapping[str, Any]], Awaitable[Any]]
TOOLS: dict[str, tuple[Json, Function]] = {}


@dataclass(frozen=True, slots=True)
class Job:
    """A tool whose calls may be tasks."""

    function: Function
    first: Function | None
    """What is asked during the call, before the task begins: more arguments."""
    always: bool
    """Modern callers that do not know tasks cannot have it."""


JOBS: dict[str, Job] = {}
PROMPTS: dict[str, tuple[Json, Function]] = {}
added: set[str] = set()
"""Of `test_dynamic_tool` and `test_dynamic_prompt` those that are listed at the moment."""


def text(value: str) -> Json:
    return {"type": "text", "text": value}


def message(content: Json) -> Json:
    return {"role": "user", "content": content}


def embedded(uri: str, mime_type: str, content: str) -> Json:
    return {"type": "resource", "resource": {"uri": uri, "mimeType": mime_type, "text": content}}


def form(message: str, properties: Json, required: list[str] | None = None) -> Json:
    fields = list(properties) if required is None else required
    schema = {"type": "object", "properties": properties, "required": fields}
    return {"method": "elicitation/create", "params": {"mode": "form", "message": message, "requestedSchema": schema}}


def sampling(prompt: str, max_tokens: int = 100) -> Json:
    messages = [{"role": "user", "content": text(prompt)}]
    return {"method": "sampling/createMessage", "params": {"messages": messages, "maxTokens": max_tokens}}


ROOTS: Json = {"method": "roots/list", "params": {}}
CAPABILITY = {"elicitation/create": "elicitation", "sampling/createMessage": "sampling", "roots/list": "roots"}


def require(caller: Caller, requests: Mapping[str, Json]) -> None:
    """What each way to ask does first: only questions that the caller can answer are asked."""
    for request in requests.values():
        if CAPABILITY[request["method"]] not in caller.capabilities:
            raise UnsupportedError(CAPABILITY[request["method"]])


def tool(function: Function, schema: Json | None = None) -> Function:
    definition = {
        "name": function.__name__,
        "description": (function.__doc__ or "").strip(),
        "inputSchema": schema or {"type": "object", "properties": {}},
    }
    TOOLS[function.__name__] = definition, function
    return function


def tool_with(*, required: list[str] | None = None, **properties: Json) -> Callable[[Function], Function]:
    names = list(properties) if required is None else required
    return lambda function: tool(function, {"type": "object", "properties": properties, "required": names})


def job(
    *, always: bool = False, first: Function | None = None, required: list[str] | None = None, **properties: Json
) -> Callable[[Function], Function]:
    """A tool whose calls may be tasks; `first` is done before that, and adds to the arguments."""

    def register(function: Function) -> Function:
        async def at_once(caller: Caller, arguments: Mapping[str, Any]) -> Any:
            asked = await first(caller, arguments) if first is not None else {}
            return await function(caller, {**arguments, **asked})

        at_once.__name__, at_once.__doc__ = function.__name__, function.__doc__
        tool_with(required=required, **properties)(at_once)
        JOBS[function.__name__] = Job(function, first, always)
        return function

    return register


def prompt(*arguments: str) -> Callable[[Function], Function]:
    def register(function: Function) -> Function:
        definition = {
            "name": function.__name__,
            "description": (function.__doc__ or "").strip(),
            "arguments": [{"name": name, "description": f"The {name}", "required": True} for name in arguments],
        }
        PROMPTS[function.__name__] = definition, function
        return function

    return register
