"""Calls and their results, as plugins see them.

Payloads are bytes until a plugin reads them. `Call.arguments`, `Call.meta` and `CallResult.content` decode once, on
first use, into read-only values (`read_only.py`). Arguments that no plugin rewrites are sent on as the bytes that came
in.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec.structs import replace as _replace

from gateway_core.api.asking import NO_ANSWERS, Answer, Answers, digest, subject
from gateway_core.api.definition import Tool
from gateway_core.api.identity import Principal
from gateway_core.api.served import KINDS, Published, Served
from gateway_core.errors import (
    INVALID_PARAMS,
    REJECTED,
    RESOURCE_NOT_FOUND_LEGACY,
    RpcError,
    UnreadableCall,
    drop_traceback,
)
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.literals import Era, Kind
from gateway_core.mcp.preset import Preset
from gateway_core.mcp.read_only import ReadOnlyDict

_EMPTY: Final[Mapping[str, Any]] = ReadOnlyDict()
_UNASKED: Final = Answers()
_NOTHING_LISTED: Final[Mapping[str, Published]] = ReadOnlyDict()
MAX_NAME_SHOWN: Final = 500
"""Maximum characters of a name that an error quotes."""


NO_HEADERS: Final[Mapping[str, str]] = ReadOnlyDict()
_HEADERS: Final = "\0headers"
"""Key beside the states of plugins, which no name of a plugin equals."""


class Call(msgspec.Struct, frozen=True, eq=False):
    """One request of an agent, in the pipeline."""

    method: str
    """`tools/call`, `prompts/get`, `resources/read`, `completion/complete`, `resources/subscribe`, a list method, or a
    task method."""
    name: str
    """The tool's or prompt's name as the agent used it, the resource's URI, the task's id; empty for lists.

    To recognize a tool use `tool.name`: an agent may also write `upstream:tool`, or the name that a profile gives.
    """
    principal: Principal
    era: Era
    exchange_id: str
    """Identifies this exchange in every log record about it; write `generation` beside it."""
    raw_arguments: bytes = b""
    """The JSON of `arguments` (of `inputResponses` for a task) as received; empty when the request has none."""
    raw_meta: bytes = b""
    """The JSON of `_meta` as received; empty when the request has none."""
    tool: Tool | None = None
    """The catalog's entry of the tool, or of the tool that created the task; None for other methods, and for names that
    no upstream serves."""
    _served: Served | None = None
    """What stands behind `name`; None if no upstream serves it, and for lists."""
    listed: Mapping[str, Published] = _NOTHING_LISTED
    """For a list method: the names in the whole list of this agent. The same object until the list changes."""
    of_prompt: bool = False
    """Whether a `completion/complete` is about a prompt, not about a resource template."""
    session: str = ""
    """An opaque key of the agent's session, the same for all calls in it; empty for agents without one (modern)."""
    continues: bool = False
    """Whether this request brings the answer to a question of a plugin, so that the plugins have seen the call before.

    Only modern agents send a call again for that. A plugin that counts calls should not count it twice.
    """
    generation: int = 1
    """The number of the configuration that judges and serves it; each reload that changes something counts it up."""
    _plugin: str = ""
    """The plugin that gets this view of the call."""
    _states: dict[str, dict[str, Any]] = {}
    """Plugin -> its state; shared by all views and rewrites of one call."""
    _decoded: dict[str, Any] = {}
    """The decoded `raw_arguments` and `raw_meta`; shared by all calls with the same bytes."""
    _answers: Answers | None = None
    """The answers to questions of plugins; None if there are none."""

    @property
    def arguments(self) -> Mapping[str, Any]:
        """The decoded arguments, read-only; decoded once. To change them return `replace(arguments=…)`.

        Raises `RpcError` if they are not an object, or if parsers may read them differently (a duplicate key). Do not
        catch it in a hook of calls: the agent then gets this error.
        """
        arguments: Mapping[str, Any] | None = self._decoded.get("arguments")
        if arguments is None:
            arguments = self._decoded["arguments"] = _object(self.raw_arguments, "arguments")
        return arguments

    @property
    def meta(self) -> Mapping[str, Any]:
        """The decoded `_meta`, read-only; decoded once. Raises `RpcError` for no object or a duplicate key."""
        meta: Mapping[str, Any] | None = self._decoded.get("meta")
        if meta is None:
            meta = self._decoded["meta"] = _object(self.raw_meta, "_meta")
        return meta

    @property
    def state(self) -> dict[str, Any]:
        """A dict for the plugin that gets this call; it lives from its `before_call` to its `after_call`."""
        return self._states.setdefault(self._plugin, {})

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of the HTTP request that this plugin names in `call_headers`, by lower-case name, read-only.

        Those that the request does not have are absent; other transports have none.
        """
        given = self._states.get(_HEADERS)
        found: Mapping[str, str] = NO_HEADERS if given is None else given.get(self._plugin, NO_HEADERS)
        return found

    def present(self, headers: Mapping[str, Mapping[str, str]]) -> None:
        """Called by the core: show each plugin its headers in this call, and in all that are made from it."""
        self._states[_HEADERS] = headers  # type: ignore[assignment]  # no plugin is called so

    @property
    def answers(self) -> Mapping[str, Answer]:
        """The answers to this plugin's own questions about this call (`Ask`), by the name of the question, read-only.

        Only answers to questions about exactly this call: the same name, arguments and tool as when the plugin asked.
        """
        return NO_ANSWERS if self._answers is None else self._answers.of(self._plugin, self.subject)

    @property
    def kind(self) -> Kind:
        """What `name` names, or, for a list method, what the list holds."""
        return KINDS.get(self.method) or ("prompt" if self.of_prompt else "template")

    @property
    def upstreams(self) -> tuple[str, ...]:
        """Names of the upstreams that can get this call, in file order; none if no upstream serves it, and for lists.

        Replicas are all named. A call of `upstream:tool` can go to one of them only.
        """
        served = self._served
        return () if served is None else tuple([upstream.name for upstream in served.upstreams])

    @property
    def original_name(self) -> str:
        """The upstreams' own name; `name` if no upstream serves it."""
        return self.name if self._served is None else self._served.original

    def digest(self) -> str:
        """A digest of name and arguments, independent of white space and member order, which a retry may change."""
        return digest(self.name, self.raw_arguments)

    def subject(self) -> bytes:
        """A digest of what a question about this call is about: method, name, arguments, and what serves the name."""
        served = None if self._served is None else [self.original_name, *self.upstreams]
        return subject(self.method, self.digest(), served)

    def with_answers(self, answers: Answers, *, continues: bool = False) -> Call:
        """Called by the core: this call with `answers`."""
        return _replace(self, _answers=answers, continues=continues)

    def seen_by(self, plugin: str) -> Call:
        """Called by the core: the view of this call for `plugin`, with that plugin's `state`."""
        return self if self._plugin == plugin else _replace(self, _plugin=plugin)

    def is_rewrite_of(self, other: Call) -> bool:
        """Whether this call was made from `other` by `replace`."""
        return self._states is other._states and self.method == other.method

    def with_target(self, served: Served | None, tool: Tool | None, preset: Preset | None = None) -> Call:
        """Called by the core: this call with what stands behind its name, the catalog's entry of a tool, and the
        arguments that a profile sets."""
        raw = self.raw_arguments if preset is None else preset.enforced_in(self.raw_arguments)
        decoded = self._decoded if raw is self.raw_arguments else {}
        return _replace(self, tool=tool, _served=served, raw_arguments=raw, _decoded=decoded)

    def with_listed(self, listed: Mapping[str, Published]) -> Call:
        """Called by the core: this call of a list method with the names in the list."""
        return _replace(self, listed=listed)

    def replace(self, *, name: str | None = None, arguments: Mapping[str, Any] | None = None) -> Call:
        """A copy of this call with another name or other arguments: return it from `before_call` to rewrite the call.

        Later changes of the dict have no effect. Raises `TypeError` if `arguments` is not a dict.
        """
        raw = self.raw_arguments
        if arguments is not None:
            _check_dict(arguments, "arguments")
            raw = jsonrpc.encode(arguments)
        return _replace(
            self,
            name=self.name if name is None else name,
            raw_arguments=raw,
            tool=self.tool if name is None or name == self.name else None,
            _served=self._served if name is None or name == self.name else None,
            _decoded=self._decoded if arguments is None else {},
        )


def answers_of(call: Call) -> Answers:
    """The answers to the questions of all plugins. No plugin gets them: each sees its own in `Call.answers`."""
    return _UNASKED if call._answers is None else call._answers


def _object(raw: bytes, what: str) -> Mapping[str, Any]:
    """The read-only value of a JSON object; no members if `raw` is empty."""
    try:
        value = jsonrpc.value(raw, frozen=True) if raw else _EMPTY
    except RpcError as error:
        raise UnreadableCall(error.code, error.message, error.data) from None
    if not isinstance(value, dict):
        raise UnreadableCall.of_gateway(INVALID_PARAMS, f"the member {what!r} must be an object")
    return value


def _check_dict(members: Mapping[str, Any], what: str) -> None:
    if not isinstance(members, dict):
        raise TypeError(f"the {what} must be a dict, not a {type(members).__name__}")


class Outcome(enum.StrEnum):
    """How an exchange ended; logs, status and plugins use these values."""

    OK = "ok"
    TOOL_ERROR = "tool_error"
    """The tool ran and reported an error: a result with `isError`."""
    ERROR = "error"
    """The upstream answered with a JSON-RPC error, or the request was invalid."""
    REFUSED = "refused"
    """A plugin refused the call, or its agent could not be asked for a plugin."""
    ASKED = "asked"
    """The agent's user is asked for a plugin; the call was not executed, and the agent may send it again."""
    UNAVAILABLE = "unavailable"
    """No upstream could take the call; it was not executed."""
    UNKNOWN = "unknown"
    """The call was sent without a response: it may have been executed."""
    CANCELLED = "cancelled"


_KEPT: Final = frozenset({Outcome.ASKED, Outcome.UNKNOWN})
"""Outcomes with a result object that no edit of it changes."""


def _outcome_of(content: Mapping[str, Any]) -> Outcome:
    return Outcome.TOOL_ERROR if content.get("isError") is True else Outcome.OK


class CallResult(msgspec.Struct, frozen=True, eq=False):
    """The result of a call: a result object (`raw`) or an `error`, never both."""

    raw: bytes = b""
    """The JSON of the result object."""
    error: RpcError | None = None
    outcome: Outcome = Outcome.OK
    upstream: str | None = None
    """The upstream that answered; None when the gateway or a plugin did."""
    era: Era | None = None
    """The protocol era of `raw`; None if a plugin or the gateway made the result for no particular era."""
    rule: str = ""
    """The rule by which a plugin made it, for plugins that observe calls; no agent sees it."""
    _decoded: list[Any] = msgspec.field(default_factory=list)

    @property
    def content(self) -> Mapping[str, Any]:
        """The decoded result object (for a tool: `content`, `structuredContent`, `isError`), read-only; decoded once.

        Empty for an error. To change it, return `replace(…)`.
        """
        if not self._decoded:
            self._decoded.append(jsonrpc.value(self.raw, frozen=True) if self.raw else _EMPTY)
        content: Mapping[str, Any] = self._decoded[0]
        return content

    @property
    def is_error(self) -> bool:
        """Whether the outcome is anything but `OK` and `ASKED`."""
        return self.outcome is not Outcome.OK and self.outcome is not Outcome.ASKED

    def replace(self, content: Mapping[str, Any]) -> CallResult:
        """A copy of this result with another result object: return it from `after_call` to rewrite the result.

        The outcome is then that of the content, `OK` or `TOOL_ERROR`; a result object that is a question stays `ASKED`,
        and one that says that the outcome is unknown stays `UNKNOWN`. Later changes of the dict have no effect. Raises
        `TypeError` if `content` is not a dict.
        """
        _check_dict(content, "content of a result")
        outcome = self.outcome
        if self.error is not None or outcome not in _KEPT:
            outcome = _outcome_of(content)
        return _replace(self, raw=jsonrpc.encode(content), error=None, outcome=outcome, _decoded=[])

    def replace_error(self, message: str, data: Any = None) -> CallResult:
        """The same error code with another message and `data`. Raises `ValueError` if the result is not an error."""
        if self.error is None:
            raise ValueError("this result holds no error")
        return _replace(self, error=RpcError(self.error.code, message, data))

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> CallResult:
        """A plugin's result in place of the upstream's; copies `content`. Raises `TypeError` if it is not a dict."""
        _check_dict(content, "content of a result")
        return cls(raw=jsonrpc.encode(content), outcome=_outcome_of(content))

    @classmethod
    def text(cls, text: str, *, is_error: bool = False) -> CallResult:
        """A tool result with one text block."""
        return cls.of({"content": [{"type": "text", "text": text}], "isError": is_error})

    @classmethod
    def failed(cls, error: RpcError, outcome: Outcome = Outcome.ERROR, upstream: str | None = None) -> CallResult:
        """A result that is a JSON-RPC error."""
        return cls(error=drop_traceback(error), outcome=outcome, upstream=upstream)

    @classmethod
    def unknown(cls, call: Call, *, rule: str = "") -> CallResult:
        """The answer to a name that no upstream serves: return it from `before_call` to hide that a name exists."""
        return cls(error=unknown_name(call), outcome=Outcome.REFUSED, rule=rule)

    @classmethod
    def refused(cls, message: str, *, upstream: str | None = None, rule: str = "") -> CallResult:
        """A refusal by a plugin. `upstream`: where the call was executed, if only its result is withheld."""
        outcome = Outcome.REFUSED if upstream is None else Outcome.ERROR
        return cls(error=RpcError.of_gateway(REJECTED, message), outcome=outcome, upstream=upstream, rule=rule)


def unknown_name(call: Call) -> RpcError:
    """The error for a name that no upstream serves, in the agent's era (server/tools, server/resources)."""
    name = call.name if len(call.name) <= MAX_NAME_SHOWN else f"{call.name[:MAX_NAME_SHOWN]}…"
    match call.method:
        case "resources/read" | "resources/subscribe":
            code = RESOURCE_NOT_FOUND_LEGACY if call.era == "legacy" else INVALID_PARAMS
            return RpcError.of_gateway(code, f"Resource not found: {name}", uri=name)
        case "tools/call":
            what = "tool"
        case "prompts/get":
            what = "prompt"
        case "tasks/get" | "tasks/update" | "tasks/cancel":
            return RpcError.of_gateway(INVALID_PARAMS, "Unknown task")  # omit the id, which grants access
        case _:
            what = "reference"
    return RpcError.of_gateway(INVALID_PARAMS, f"Unknown {what}: {name}")
