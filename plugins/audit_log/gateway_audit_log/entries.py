"""Entries made from events. The writer's thread calls this, because digests of large payloads take time."""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw

from gateway_audit_log.chaining import Keys, digest_of
from gateway_audit_log.settings import Settings
from gateway_audit_log.writer import Body, text_of
from gateway_core import (
    AuthenticationEnded,
    Call,
    CallEnded,
    CallResult,
    Decision,
    Hider,
    Outcome,
    Principal,
    Tool,
    tier_of,
)

MAX_NAME: Final = 500
"""Characters of a name or a reason that are recorded."""
MAX_CLAIMS: Final = 16 * 1024
"""Bytes of the claims of a principal that are recorded."""
_HINTS: Final = ("readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint")
_KNOWN: Final = 1024
"""Principals and tools whose form is remembered."""
_USERINFO: Final = re.compile(r"(?<=://)[^/@]*@")
_encode: Final = msgspec.json.Encoder().encode


class Entries:
    """Makes entries as the settings say."""

    def __init__(self, settings: Settings, keys: Keys) -> None:
        self._settings = settings
        self._key = keys.digest
        self._records = settings.payloads.matches
        self._claims = settings.claims.matches
        self._hider = Hider()
        self._tools: OrderedDict[int, tuple[Tool, Raw]] = OrderedDict()
        """What stands behind calls of a tool by its own name; the catalog uses one object until the tool changes."""
        self._principals: OrderedDict[int, tuple[Principal, Raw]] = OrderedDict()

    def of(self, event: CallEnded | AuthenticationEnded) -> Body:
        """The entry of an event, without the members of the chain."""
        if isinstance(event, AuthenticationEnded):
            return self._of_authentication(event)
        return self._of_call(event)

    def _of_authentication(self, event: AuthenticationEnded) -> Body:
        principal = None if event.principal is None else self._principal(event.principal)
        return {
            "type": "authentication",
            "time": text_of(time.time()),
            "address": event.address,
            "decision": "refuse" if event.principal is None else "allow",
            "plugin": event.plugin,
            "reason": _clean(event.reason),
            "principal": principal,
            "generation": event.generation,
        }

    def _of_call(self, event: CallEnded) -> Body:
        call, final, result = event.call, event.final, event.result
        decision, by = decided(event.decisions, result)
        body: Body = {
            "type": "call",
            "time": text_of(event.started),
            "exchange": event.exchange_id,
            "method": event.method,
            "name": "" if call is None else self._name(call),
            "principal": self._principal(event.principal),
            "era": event.era,
            "session": event.session,
            "served": None if call is None else self._served(call),
            "decision": decision,
            "plugin": "" if by is None else by.plugin,
            "rule": "" if by is None else by.rule,
            "decisions": [[one.plugin, one.decided, one.rule] for one in event.decisions],
            "outcome": result.outcome.value,
            "code": None if result.error is None else result.error.code,
            "upstream": event.upstream,
            "sent": event.sent,
            "ms": round(event.seconds * 1000, 1),
            "generation": event.generation,
        }
        if event.waited:
            body["waited_ms"] = round(event.waited * 1000, 1)
        if call is not None:
            body["arguments"] = self._digest(call.raw_arguments)
            if call.continues:
                body["continues"] = True
            if event.answered:
                body["answered"] = True
            if event.answered_by:
                body["answered_by"] = [*map(_clean, event.answered_by)]
            if final is not None and final is not call and _differs(call, final):
                body["rewritten"] = {"name": self._name(final), "arguments": self._digest(final.raw_arguments)}
        answer = _bytes_of(result)
        body["result"] = self._digest(answer)
        if self._settings.payloads and call is not None and self._wanted(call):
            body["payload"] = {
                "arguments": self._payload(call.raw_arguments, event.clean),
                "result": self._payload(answer, event.clean),
            }
        return body

    def _name(self, call: Call) -> str:
        if call.method.startswith("tasks/"):
            return f"task {digest_of(call.name.encode(), self._key)}"  # the id of a task grants access to it
        if call.kind in {"resource", "template"} and call.name:
            return f"{_USERINFO.sub('', call.name.partition('?')[0].partition('#')[0])[:MAX_NAME]}"
        return _clean(call.name)

    def _served(self, call: Call) -> Raw | None:
        """What stands behind the name of a call: what rules look at. None if no upstream serves it."""
        tool = call.tool
        if tool is None or tool.name != call.name or call.method != "tools/call":
            return _facts(call)
        known = self._tools.get(id(tool))
        if known is None or known[0] is not tool:
            made = _facts(call)
            if made is None:
                return None
            known = self._tools[id(tool)] = tool, made
            if len(self._tools) > _KNOWN:
                self._tools.popitem(last=False)
        return known[1]

    def _digest(self, data: bytes) -> Mapping[str, Any] | None:
        return {"bytes": len(data), "digest": digest_of(data, self._key)} if data else None

    def _wanted(self, call: Call) -> bool:
        tool = call.tool
        published = call.name if tool is None else tool.name
        return self._records(published) or any(self._records(f"{one}:{call.original_name}") for one in call.upstreams)

    def _payload(self, data: bytes, clean: Callable[[bytes], bytes]) -> Mapping[str, Any] | None:
        """What is kept of JSON: its value with secrets hidden, or why it is left out."""
        if not data:
            return None
        if len(data) > self._settings.max_payload:
            return {"left_out": f"it has {len(data)} bytes"}
        try:
            given = msgspec.json.decode(data)
            value = self._hider.value(msgspec.json.decode(clean(data)))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return {"left_out": "it is no JSON"}
        return {"value": value} if value == given else {"value": value, "hidden": True}

    def _principal(self, principal: Principal) -> Raw:
        known = self._principals.get(id(principal))
        if known is not None and known[0] is principal:
            return known[1]
        made = Raw(_encode(self._described(principal)))
        self._principals[id(principal)] = principal, made
        if len(self._principals) > _KNOWN:
            self._principals.popitem(last=False)
        return made

    def _described(self, principal: Principal) -> Mapping[str, Any]:
        kept = {name: value for name, value in principal.claims.items() if self._claims(name)}
        try:
            claims = _encode(kept)
        except Exception:  # noqa: BLE001 - claims of a plugin
            kept, claims = {}, b"{}"
        if len(claims) > MAX_CLAIMS:
            kept, claims = {}, b"{}"
        found: dict[str, Any] = {
            "id": _clean(principal.id),
            "verified": principal.verified,
            "client": _clean(f"{principal.client_name} {principal.client_version}".strip()),
            "address": principal.address,
        }
        if principal.profile:
            found["profile"] = principal.profile
        if principal.verified:
            found |= {
                "subject": principal.subject,
                "issuer": principal.issuer,
                "groups": sorted(principal.groups),
                "scopes": sorted(principal.scopes),
                "claims": Raw(claims),
                "claims_left_out": len(principal.claims) - len(kept),
            }
        return found


def decided(decisions: Sequence[Decision], result: CallResult) -> tuple[str, Decision | None]:
    """What was decided about a call, and the decision of the plugin behind it, if any."""
    last = next((one for one in reversed(decisions) if one.decided not in {"rewrite", "edit"}), None)
    if result.outcome is Outcome.ASKED:
        return "ask", last
    if last is not None and last.decided in {"refuse", "answer"}:
        return last.decided, last
    if result.outcome is Outcome.REFUSED:
        return ("fail" if last is not None and last.decided == "fail" else "refuse"), last
    passed = next((one for one in reversed(decisions) if one.decided == "pass"), None)
    return "allow", passed


def _facts(call: Call) -> Raw | None:
    if not call.upstreams:
        return None
    found: dict[str, Any] = {"kind": call.kind, "upstreams": call.upstreams}
    if call.original_name != call.name and call.kind in {"tool", "prompt"} and not call.method.startswith("tasks/"):
        found["original"] = call.original_name[:MAX_NAME]
    tool = call.tool
    if tool is not None:
        annotations = tool.annotations
        hints = {name: value for name in _HINTS if isinstance(value := annotations.get(name), bool)}
        found["tier"] = tier_of(hints)
        if hints:
            found["annotations"] = hints
        if tool.name != call.name:
            found["tool"] = tool.name
    return Raw(_encode(found))


def _differs(call: Call, final: Call) -> bool:
    return call.name != final.name or call.raw_arguments != final.raw_arguments


def _bytes_of(result: CallResult) -> bytes:
    """The bytes of a result, or of its error."""
    if result.error is None:
        return result.raw
    error = result.error
    try:
        return _encode({"code": error.code, "message": error.message, "data": error.data})
    except Exception:  # noqa: BLE001 - the data may be anything
        return _encode({"code": error.code, "message": _clean(error.message)})


def _clean(text: str) -> str:
    return text[:MAX_NAME].encode("utf-8", "backslashreplace").decode()
