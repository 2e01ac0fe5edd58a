"""What the suite does not look at: that the contents are right, not only their shapes.

Every check asks through a stock SDK client, and compares with what the offer itself says when it is called in this
process, without any server. So an error in the shape of a result, or an answer of the wrong server, does not pass.
"""

from __future__ import annotations

import asyncio
import json
import sys
import warnings
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import mcp_types as types
from mcp.client import Client
from mcp.shared.exceptions import MCPDeprecationWarning

sys.path.append(str(Path(__file__).parent / "servers"))

import offer
from registry import WATCHED

LIMIT = 5.0
ROOT = "file:///srv/project"
SPOKEN = {"role": "assistant", "content": {"type": "text", "text": "Paris, I think"}, "model": "a-model"}

Json = dict[str, Any]


def filled(schema: Mapping[str, Any]) -> Json:
    """An answer for each field of a form."""
    return {
        name: True if field.get("type") == "boolean" else f"the {name}" for name, field in schema["properties"].items()
    }


class Told:
    """The caller in this process: it answers what the client answers, and notes what it is told."""

    passes: tuple[type[Exception], ...] = ()
    capabilities: Mapping[str, Any] = {"elicitation": {}, "sampling": {}, "roots": {}}

    def __init__(self, server: str) -> None:
        self.server = server
        self.notes: list[Any] = []

    async def log(self, text: str) -> None:
        self.notes.append(text)

    async def progress(self, done: float, total: float) -> None:
        self.notes.append([done, total])

    async def ask(self, requests: Mapping[str, Json], *, state: str | None = None) -> Mapping[str, Json]:
        return {key: self._answer(request) for key, request in requests.items()}

    def _answer(self, request: Json) -> Json:
        if request["method"] == "elicitation/create":
            return {"action": "accept", "content": filled(request["params"]["requestedSchema"])}
        return {"roots": [{"uri": ROOT}]} if request["method"] == "roots/list" else SPOKEN

    async def changed(self, what: str) -> None:
        self.notes.append(what)

    async def hang_up(self) -> None:
        pass


class Front:
    """A stock client, and what it was told."""

    def __init__(self, url: str, revision: str) -> None:
        self.legacy = revision < "2026"
        self.notes: asyncio.Queue[Any] = asyncio.Queue()
        self.client = Client(
            url,
            mode="legacy" if self.legacy else revision,
            read_timeout_seconds=LIMIT,
            log_level=None if self.legacy else "debug",
            elicitation_callback=self._elicit,
            sampling_callback=self._sample,
            list_roots_callback=self._roots,
            logging_callback=self._logged,
            message_handler=self._received,
        )

    async def _elicit(self, context: Any, params: Any) -> types.ElicitResult:
        return types.ElicitResult(action="accept", content=filled(params.requested_schema))

    async def _sample(self, context: Any, params: Any) -> types.CreateMessageResult:
        return types.CreateMessageResult.model_validate(SPOKEN)

    async def _roots(self, context: Any) -> types.ListRootsResult:
        return types.ListRootsResult.model_validate({"roots": [{"uri": ROOT}]})

    async def _logged(self, params: types.LoggingMessageNotificationParams) -> None:
        await self.notes.put(params.data)

    async def _received(self, message: Any) -> None:
        if isinstance(message, types.ResourceUpdatedNotification):
            await self.notes.put(message.params.uri)

    async def progressed(self, done: float, total: float | None, text: str | None) -> None:
        await self.notes.put([done, total])

    async def noted(self, count: int) -> list[Any]:
        """As many notes as are expected; they may be underway when the call has ended."""
        return [await self.notes.get() for _ in range(count)]


def plain(result: Any) -> Json:
    """A result without what an era or a hop adds."""
    made: Json = result.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {key: value for key, value in made.items() if key in {"content", "messages", "contents", "completion"}} | (
        {"isError": True} if made.get("isError") else {}
    )


Check = Callable[[Front], Awaitable[Any]]


def called(name: str, arguments: Json | None = None, under: str | None = None) -> Check:
    async def check(front: Front) -> Any:
        await front.client.list_tools()  # it tells the client which arguments travel as headers
        return plain(await front.client.call_tool(under or name, arguments or {}, progress_callback=front.progressed))

    return check


async def logged(front: Front) -> Any:
    if front.legacy:
        with warnings.catch_warnings(action="ignore", category=MCPDeprecationWarning):
            await front.client.set_logging_level("debug")
    await front.client.call_tool("test_tool_with_logging", {})
    return await front.noted(3)


async def progressed(front: Front) -> Any:
    await front.client.call_tool("test_tool_with_progress", {}, progress_callback=front.progressed)
    return await front.noted(3)


async def subscribed(front: Front) -> Any:
    if not front.legacy:
        async with front.client.listen(resource_subscriptions=[WATCHED]) as changes:
            await front.client.call_tool("touch_watched_resource", {})
            async for change in changes:
                return [getattr(change, "uri", str(change))]
        return []
    with warnings.catch_warnings(action="ignore", category=MCPDeprecationWarning):
        await front.client.subscribe_resource(WATCHED)
    await front.client.call_tool("touch_watched_resource", {})
    return await front.noted(1)


EMBEDDING, EMBEDDED = "test_multiple_content_types", "test://mixed-content-resource"
CALLS: dict[str, Json] = {
    "test_simple_text": {},
    "test_error_handling": {},
    EMBEDDING: {},
    "test_x_mcp_header": {"region": " nörd "},
    "test_elicitation": {"message": "Who are you?"},
    "test_sampling": {"prompt": "What is the capital of France?"},
    "test_input_required_result_multi_round": {},
    "test_input_required_result_multiple_inputs": {},
}


async def expected(server: str, neighbours: Mapping[str, str]) -> dict[str, tuple[Check, Any]]:
    """Name of a check -> how the client asks, and what the offer itself says."""
    told = Told(server)
    checks: dict[str, tuple[Check, Any]] = {
        name: (called(name, arguments), await offer.call(told, name, arguments)) for name, arguments in CALLS.items()
    }
    for prefix, name in {"": server, **neighbours}.items():
        said = await offer.call(Told(name), "who_answers", {})
        checks[f"{prefix}who_answers"] = called("who_answers", under=f"{prefix}who_answers"), said
    for uri in ("test://static-binary", "test://template/7/data"):
        checks[uri] = (lambda front, uri=uri: _read(front, uri)), offer.read(uri)
    given = {"arg1": "one", "arg2": "two"}
    made = await offer.get_prompt(told, "test_prompt_with_arguments", given)
    checks["test_prompt_with_arguments"] = (lambda front: _prompt(front, given)), {"messages": made["messages"]}
    for name, check in (("test_tool_with_logging", logged), ("test_tool_with_progress", progressed)):
        told.notes.clear()
        await offer.call(told, name, {})
        checks[name] = check, list(told.notes)
    checks["touch_watched_resource"] = subscribed, [WATCHED]
    if neighbours:
        check, said = checks[EMBEDDING]
        checks[EMBEDDING] = check, _marked(said, server.removeprefix("reference-"))
    return checks


def _marked(said: Any, upstream: str) -> Any:
    """Where several upstreams have resources, the URI of one that is not listed says whose it is."""
    return json.loads(json.dumps(said).replace(f'"{EMBEDDED}"', f'"{EMBEDDED}#upstream={upstream}"'))


async def _read(front: Front, uri: str) -> Any:
    return plain(await front.client.read_resource(uri))


async def _prompt(front: Front, given: dict[str, str]) -> Any:
    return plain(await front.client.get_prompt("test_prompt_with_arguments", given))


async def _ask(url: str, revision: str, check: Check) -> Any:
    front = Front(url, revision)
    try:
        async with asyncio.timeout(LIMIT):
            async with front.client:
                return await check(front)
    except Exception as error:
        # The SDK hides what happened in groups of one.
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        return f"{type(error).__name__}: {error}"


def differences(url: str, revision: str, server: str, neighbours: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The checks that differ, each with what was expected and what came; also written to `folder`."""

    async def compare() -> dict[str, str]:
        differ = {}
        for name, (check, said) in (await expected(server, neighbours)).items():
            came = await _ask(url, revision, check)
            if came != said:
                differ[name] = f"expected {_short(said)}, but got {_short(came)}"
        return differ

    folder.mkdir(parents=True, exist_ok=True)
    found = asyncio.run(compare())
    (folder / "contents.json").write_text(json.dumps(found, indent=1, ensure_ascii=False))
    return found


def _short(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:300]
