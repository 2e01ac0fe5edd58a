"""The extension for tasks (SEP-2663) of a reference server on the current SDK, which has the hooks for it but no tasks.

A task is a call of one of `registry.JOBS` that goes on by itself; what it asks waits in `inputRequests`.
"""

import asyncio
import itertools
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import mcp_types as types
import offer
from mcp.server.context import CallNext, ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.server.mcpserver.server import require_client_extension
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import SUBSCRIPTION_ID_META_KEY
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from registry import JOBS, Json, require

EXTENSION = "io.modelcontextprotocol/tasks"
TTL_MS = 300_000
POLL_INTERVAL_MS = 200
KEPT = 1000

Context = ServerRequestContext[Any, Any]
tasks: dict[str, "Task"] = {}


class TaskParams(types.RequestParams):
    task_id: str


class UpdateParams(TaskParams):
    input_responses: dict[str, Any]


class Task:
    """One call that goes on. It is its tool's `Caller`, too: whoever called is only reached by its status."""

    passes: tuple[type[Exception], ...] = ()

    def __init__(self, server: str, capabilities: Mapping[str, Any]) -> None:
        self.server, self.capabilities = server, capabilities
        self.id = secrets.token_urlsafe(16)
        self.created = self.updated = _now()
        self.status = "working"
        self.details: Json = {}
        """What the status comes with: `inputRequests`, `result` or `error`."""
        self.listeners: set[asyncio.Queue[Json]] = set()
        self._answers: Json = {}
        self._answered = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    def start(self, name: str, arguments: Mapping[str, Any]) -> None:
        self._running = asyncio.get_running_loop().create_task(self._run(name, arguments))

    async def _run(self, name: str, arguments: Mapping[str, Any]) -> None:
        try:
            self._enter("completed", result=await offer.result_of(self, JOBS[name].function, arguments))
        except asyncio.CancelledError:
            self._enter("cancelled")
        except offer.RefusedError as error:
            self._enter("failed", error={"code": error.code, "message": str(error)})
        except offer.UnsupportedError as error:
            code = types.MISSING_REQUIRED_CLIENT_CAPABILITY
            self._enter("failed", error={"code": code, "message": str(error), "data": error.data})

    def _enter(self, status: str, **details: Any) -> None:
        self.status, self.details, self.updated = status, details, _now()
        for listener in self.listeners:
            listener.put_nowait(self.detailed)

    @property
    def seed(self) -> Json:
        """What the result that creates it says."""
        return {
            "taskId": self.id,
            "status": self.status,
            "createdAt": self.created,
            "lastUpdatedAt": self.updated,
            "ttlMs": TTL_MS,
            "pollIntervalMs": POLL_INTERVAL_MS,
        }

    @property
    def detailed(self) -> Json:
        return {**self.seed, **self.details}

    def cancel(self) -> None:
        if self._running is not None:
            self._running.cancel()

    def answer(self, answers: Mapping[str, Any]) -> None:
        """Take answers to what is still open; others are ignored."""
        open_ = self.details.get("inputRequests", {})
        taken = {key: answers[key] for key in answers if key in open_}
        if not taken:
            return
        self._answers |= taken
        left = {key: open_[key] for key in open_ if key not in taken}
        if left:
            self._enter("input_required", inputRequests=left)
        else:
            self._enter("working")
            self._answered.set()

    # What the tool may do with its caller.

    async def ask(self, requests: Mapping[str, Json], *, state: str | None = None) -> Mapping[str, Json]:
        require(self, requests)
        self._answered.clear()
        self._enter("input_required", inputRequests=dict(requests))
        await self._answered.wait()
        return {key: self._answers[key] for key in requests}

    async def log(self, text: str) -> None:
        """Tasks have no log messages (Task Status Notifications)."""

    async def progress(self, done: float, total: float) -> None:
        """Nor progress."""

    async def changed(self, what: str) -> None:
        raise NotImplementedError("no job changes anything")

    async def hang_up(self) -> None:
        """There is no stream that could be closed."""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def becomes_task(context: Context, name: str) -> bool:
    """Whether a call of that tool is to be a task."""
    job = JOBS.get(name)
    if job is None or context.protocol_version not in MODERN_PROTOCOL_VERSIONS:
        return False
    if job.always:
        require_client_extension(context, EXTENSION)
    declared = context.session.client_capabilities
    return declared is not None and EXTENSION in (declared.extensions or {})


async def begin(caller: Any, name: str, arguments: Mapping[str, Any]) -> Json:
    """Make a task of a call, after what is to be asked first."""
    job = JOBS[name]
    asked = await job.first(caller, arguments) if job.first is not None else {}
    task = Task(caller.server, caller.capabilities)
    tasks[task.id] = task
    for oldest in list(itertools.islice(tasks, len(tasks) - KEPT)) if len(tasks) > KEPT else ():
        tasks.pop(oldest).cancel()
    created = {"resultType": "task", **task.seed}
    task.start(name, {**arguments, **asked})
    return created


def _found(context: Context, params: TaskParams) -> Task:
    """The task that a request is about, if it may be made at all."""
    require_client_extension(context, EXTENSION)
    named = context.request.headers.get("mcp-name") if context.request is not None else params.task_id
    if named != params.task_id:
        raise MCPError(types.HEADER_MISMATCH, "the header Mcp-Name does not match params.taskId")
    if params.task_id not in tasks:
        raise MCPError(types.INVALID_PARAMS, "Task not found")
    return tasks[params.task_id]


async def get(context: Context, params: TaskParams) -> Any:
    return _found(context, params).detailed


async def update(context: Context, params: UpdateParams) -> Any:
    _found(context, params).answer(params.input_responses)
    return {}


async def cancel(context: Context, params: TaskParams) -> Any:
    _found(context, params).cancel()
    return {}


async def of_its_era(context: Context, call_next: CallNext) -> Any:
    """To a legacy client these methods are unknown; `subscriptions/listen` with `taskIds` is served here."""
    if context.method.startswith("tasks/") and context.protocol_version not in MODERN_PROTOCOL_VERSIONS:
        raise MCPError(types.METHOD_NOT_FOUND, "Method not found")
    wanted = (context.params or {}).get("notifications", {}).get("taskIds")
    if context.method != "subscriptions/listen" or wanted is None:
        return await call_next(context)
    require_client_extension(context, EXTENSION)
    return await _listen(context, [task_id for task_id in wanted if task_id in tasks])


async def _listen(context: Context, accepted: list[str]) -> Json:
    """Tell of tasks until the client has had enough. It serves no other part of the filter."""
    meta = {SUBSCRIPTION_ID_META_KEY: context.request_id}

    async def tell(method: str, params: Json) -> None:
        told = types.Notification[Json, str](method=method, params={**params, "_meta": meta})
        await context.session.send_notification(told, related_request_id=context.request_id)

    queue: asyncio.Queue[Json] = asyncio.Queue()
    for task_id in accepted:
        tasks[task_id].listeners.add(queue)
    try:
        await tell("notifications/subscriptions/acknowledged", {"notifications": {"taskIds": accepted}})
        while True:
            await tell("notifications/tasks", await queue.get())
    finally:
        for task_id in accepted:
            if task_id in tasks:
                tasks[task_id].listeners.discard(queue)


def extend(server: Server[Any]) -> None:
    """Have a server offer it."""
    server.extensions[EXTENSION] = {}
    server.add_request_handler("tasks/get", TaskParams, get)
    server.add_request_handler("tasks/update", UpdateParams, update)
    server.add_request_handler("tasks/cancel", TaskParams, cancel)
    server.middleware.append(of_its_era)
