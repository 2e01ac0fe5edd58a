"""Log requests and results with secrets hidden. Only this plugin writes payloads to the log.

With `redact_results`, it also hides secrets in results to the agent. Requests to the upstream always stay unchanged.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from functools import lru_cache, partial
from typing import Any, Final, Self
from zlib import crc32

import msgspec
from pydantic import Field, model_validator

from gateway_core import Call, CallResult, Hider, Known, Note, Patterns, Plugin, PluginConfig, RpcError, hookimpl, note
from gateway_security_redact.background import PATIENCE, SearchThread

DEFAULT_PATTERNS: Final = Patterns(["api[_-]?key", "password", "token"])
"""The built-in names cover these, except for names such as `max_tokens`."""

_UNREAD: Final = object()
MAX_SCANNED: Final = 256 * 1024
"""Maximum bytes of a result that `redact_results` searches. It withholds a larger one."""
MAX_LOGGED: Final = 32 * 1024
"""Maximum bytes of a payload that is searched for the log. Of a larger one, the log has only the size."""
AT_ONCE: Final = 16 * 1024
"""Bytes of a result up to which `redact_results` searches it at once. It searches a larger one in a thread."""
_MAX_NAME: Final = 256


class Settings(PluginConfig):
    """Settings of `security_redact`."""

    patterns: Patterns = Field(
        default=DEFAULT_PATTERNS, description="RE2 patterns, case ignored, of the keys whose values are hidden"
    )
    builtin: bool = Field(default=True, description="also hide what has a usual name of a secret, or the shape of one")
    log_requests: bool = Field(default=True, description="log the arguments of calls")
    log_responses: bool = Field(default=True, description="log the results of calls")
    redact_results: bool = Field(default=False, description="hide secrets from the agent, too")
    max_logged_bytes: int = Field(
        default=4096, ge=256, le=8000, description="bytes of a payload that are logged; the rest is cut"
    )
    sample_rate: float = Field(default=1.0, gt=0, le=1, description="share of the calls whose payloads are logged")

    @model_validator(mode="after")
    def _what_is_about_the_log_needs_one(self) -> Self:
        if not (self.log_requests or self.log_responses):
            for name in ("max_logged_bytes", "sample_rate"):
                if name in self.model_fields_set:
                    raise ValueError(f"{name} has no effect while no payload is logged; remove it")
        return self


class Redact(Plugin[Settings]):
    """Logs payloads and hides secrets."""

    after_call_reads_arguments = False
    methods = frozenset(
        {"tools/call", "prompts/get", "resources/read", "completion/complete", "tasks/get", "tasks/update"}
    )

    def __init__(self, config: Settings) -> None:
        super().__init__(config)
        if not (config.log_requests or config.log_responses or config.redact_results):
            self.methods = frozenset()  # no hook has anything to do
        patterns: list[str] = [it for it in config.patterns if not config.builtin or it not in DEFAULT_PATTERNS]
        self._hider = Hider(patterns, builtin=config.builtin)
        self._log_hider = Hider(patterns, builtin=config.builtin, handles=True)
        self._known = lru_cache(maxsize=1024)(self._named)
        self._thread = SearchThread()

    def notes(self, known: Known) -> Iterator[Note]:
        """What would be hidden, if there were anything to hide it in."""
        config = self.config
        if not self.methods:
            given = config.model_fields_set
            if "builtin" in given:
                yield Note("has no effect while nothing is logged, and redact_results is false", "builtin")
            if "patterns" in given and config.patterns != DEFAULT_PATTERNS:
                yield Note("has no effect while nothing is logged, and redact_results is false", "patterns")

    @hookimpl
    def before_call(self, call: Call) -> None:
        if self.config.log_requests and self._is_sampled(call):
            self._log(call, partial(self._request_line, call))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._thread.close()

    @hookimpl
    def after_call(self, call: Call, result: CallResult) -> CallResult | Awaitable[CallResult | None] | None:
        logged = self.config.log_responses and self._is_sampled(call)
        if result.error is not None:
            return self._after_error(call, result, logged)

        payload = _Payload(result.raw)
        if logged:
            self._log(call, partial(self._line, "response", call, f"{result.outcome} ", payload))
        if not self.config.redact_results or (payload.can_be_searched and self._hider.clears(payload.raw)):
            return None
        return self._hidden(call, result, len(payload.raw), partial(self._without_secrets, result, payload))

    def _hidden(
        self, call: Call, result: CallResult, size: int, search: Callable[[], CallResult | None]
    ) -> CallResult | Awaitable[CallResult | None] | None:
        """The outcome of `search`, at once or from the thread. `size`: bytes that it searches."""
        if size > MAX_SCANNED:
            return _withheld(result, f"{size} bytes, {MAX_SCANNED} at most")
        return search() if size <= AT_ONCE else self._later(call, result, search)

    async def _later(
        self, call: Call, result: CallResult, search: Callable[[], CallResult | None]
    ) -> CallResult | None:
        try:
            return await self._thread.run(call.principal.address, search)
        except TimeoutError:
            return _withheld(result, f"not done within {PATIENCE:g} s")

    def _without_secrets(self, result: CallResult, payload: _Payload) -> CallResult | None:
        content = payload.content()
        if content is None:
            return _withheld(result, "unreadable")
        hidden = self._hider.value(content)
        return None if hidden is content else result.replace(hidden)

    def _after_error(
        self, call: Call, result: CallResult, logged: bool
    ) -> CallResult | Awaitable[CallResult | None] | None:
        """Log an error and hide its secrets: errors may quote the arguments."""
        error = result.error
        if error is None:
            return None
        if logged:
            self._log(call, partial(self._error_line, call, result))
        if not self.config.redact_results:
            return None
        size = len(_written([error.message, error.data]))
        return self._hidden(call, result, size, partial(self._error_without_secrets, result, error))

    def _error_without_secrets(self, result: CallResult, error: RpcError) -> CallResult | None:
        message, data = self._hider.text(error.message), self._hider.value(error.data)
        same = message is error.message and data is error.data
        return None if same else result.replace_error(message, data)

    def _is_sampled(self, call: Call) -> bool:
        """Whether to log the payloads of this call. Decided by its id, so that both or neither are logged."""
        rate = self.config.sample_rate
        return rate == 1 or crc32(call.exchange_id.encode()) < rate * 2**32

    def _shown(self, payload: _Payload) -> str:
        """The text of a payload for the log, with secrets hidden."""
        raw = payload.raw
        if len(raw) > MAX_LOGGED:
            return f"[{len(raw)} bytes, not logged]"
        if self._log_hider.clears(raw):
            return self._cut(raw)
        content = payload.content()
        if content is None:
            return f"[unparsable, {len(raw)} bytes]"
        return self._cut(_written(self._log_hider.value(content)))

    def _cut(self, data: bytes) -> str:
        """Decode UTF-8, cut to `max_logged_bytes`."""
        limit = self.config.max_logged_bytes
        if len(data) <= limit:
            return data.decode()
        return f"{data[:limit].decode(errors='ignore')} [cut, {len(data)} bytes in all]"

    def _begin(self, what: str, call: Call) -> str:
        begin = self._known if len(call.name) <= _MAX_NAME else self._named
        return begin(what, call.method, call.name)

    def _named(self, what: str, method: str, name: str) -> str:
        shown = "" if method.startswith("tasks/") else f"{self._log_hider.text(name)[:_MAX_NAME]} "
        return f"{what} {method} {shown}"

    def _line(self, what: str, call: Call, outcome: str, payload: _Payload) -> str:
        return f"{self._begin(what, call)}{outcome}{self._shown(payload)}"

    def _request_line(self, call: Call) -> str:
        return self._line("request", call, "", _Payload(call.raw_arguments or b"{}"))

    def _error_line(self, call: Call, result: CallResult) -> str:
        assert result.error is not None, "it has failed"
        text = result.error.message
        if len(text) > MAX_LOGGED:
            message = f"[{len(text)} characters, not logged]"
        else:
            message = self._cut(_encoded(self._log_hider.text(text)))
        return f"{self._begin('response', call)}{result.outcome} {result.error.code} {message}"

    @staticmethod
    def _log(call: Call, line: Callable[[], str]) -> None:
        # lazy: skips the search if the line is not written
        note(line, {"exchange": call.exchange_id, "generation": call.generation})


class _Payload:
    """The JSON of a request or a result, decoded once, on first use."""

    __slots__ = ("_content", "can_be_searched", "raw")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.can_be_searched = len(raw) <= MAX_SCANNED
        self._content: Any = _UNREAD

    def content(self) -> Any:
        """The decoded JSON; None if it is too large or unreadable (`null` is not a payload)."""
        if self._content is _UNREAD:
            self._content = _decoded(self.raw) if self.can_be_searched else None
        return self._content


def _decoded(raw: bytes) -> Any:
    try:
        # Fast, but ignores duplicate members. If encoding gives the same bytes, there were none.
        content = msgspec.json.decode(raw)
        if msgspec.json.encode(content) == raw:
            return content
    except (msgspec.DecodeError, ValueError, RecursionError):
        pass
    try:
        return json.loads(raw, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object with these members. Raises `ValueError` for duplicates, since parsers differ on which one counts."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is given twice")
    return members


def _written(value: Any) -> bytes:
    """Encode JSON as UTF-8."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:  # a lone surrogate
        return _encoded(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def _encoded(text: str) -> bytes:
    return text.encode(errors="backslashreplace")


def _withheld(result: CallResult, reason: str) -> CallResult:
    message = f"the answer is withheld: security_redact cannot search it for secrets ({reason}); the call was executed"
    return CallResult.refused(message, upstream=result.upstream)
