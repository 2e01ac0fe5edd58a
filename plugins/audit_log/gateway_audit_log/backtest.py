"""Back-tests: what other plugins and rules would have decided about recorded calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Final, NamedTuple, cast

import msgspec

from gateway_audit_log.reading import seconds_of
from gateway_core import Era, Judgement, Kind, Principal, RecordedCall, Rehearsal

_encode: Final = msgspec.json.Encoder().encode


class Compared(NamedTuple):
    """One call, as it was decided and as it would be."""

    entry: Mapping[str, Any]
    was: str
    """`allow`, `refuse`, `answer`, `ask`, `fail` or `unserved`."""
    now: Judgement

    @property
    def differs(self) -> bool:
        """Whether it would be decided differently, as far as that is known."""
        return self.now.decision not in {self.was, "undecided"}


class Sum:
    """What came of all calls."""

    def __init__(self) -> None:
        self.pairs: Final[Counter[tuple[str, str]]] = Counter()
        """What was decided and what would be -> number of calls."""
        self.reasons: Final[Counter[str]] = Counter()
        """Why calls are not decided -> their number."""
        self.skipped: Final[Counter[str]] = Counter()
        """What cannot be judged -> number of entries."""
        self.claims_left_out = 0
        """Calls of principals with claims that were not recorded."""

    def add(self, one: Compared) -> None:
        """Count a call."""
        self.pairs[one.was, one.now.decision] += 1
        if one.now.decision == "undecided":
            self.reasons[one.now.reason] += 1
        principal = one.entry.get("principal")
        if isinstance(principal, dict) and principal.get("claims_left_out"):
            self.claims_left_out += 1

    def skip(self, why: str) -> None:
        """Count an entry that cannot be judged."""
        self.skipped[why] += 1

    @property
    def calls(self) -> int:
        """Number of calls that were judged."""
        return self.pairs.total()

    @property
    def different(self) -> int:
        """Number of calls that would be decided differently."""
        return sum(count for (was, now), count in self.pairs.items() if now not in {was, "undecided"})

    @property
    def undecided(self) -> int:
        """Number of calls that are not decided."""
        return sum(count for (_, now), count in self.pairs.items() if now == "undecided")


async def compared(entries: Iterable[Mapping[str, Any]], rehearsal: Rehearsal, into: Sum) -> AsyncIterator[Compared]:
    """The recorded calls with what the plugins of `rehearsal` decide about them, in the order of the record."""
    for entry in entries:
        if entry.get("type") != "call":
            continue
        method = str(entry.get("method"))
        if method.endswith("/list"):
            into.skip("lists")
            continue
        try:
            call, was = recorded_call(entry), decision_of(entry)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            into.skip("entries without the facts that rules need")
            continue
        one = Compared(entry, was, await rehearsal.judge(call))
        into.add(one)
        yield one


def decision_of(entry: Mapping[str, Any]) -> str:
    """What was decided about a recorded call."""
    asked = any(one[1] == "ask" for one in entry.get("decisions", ()))
    if asked or entry.get("answered"):
        return "ask"
    decision = str(entry["decision"])
    return "unserved" if decision == "allow" and entry.get("served") is None else decision


def recorded_call(entry: Mapping[str, Any]) -> RecordedCall:
    """The call of an entry. Raises `KeyError`, `TypeError`, `ValueError` or `AttributeError` for other entries."""
    served: Mapping[str, Any] = entry["served"] or {}
    method, name = str(entry["method"]), str(entry["name"])
    if "arguments" not in entry:
        raise ValueError("its params could not be read")
    listed = "tier" in served
    return RecordedCall(
        method,
        name,
        _principal(entry["principal"]),
        cast(Era, entry["era"]),
        seconds_of(entry["time"]),
        kind=cast(Kind, served.get("kind", _kind_of(method))),
        upstreams=tuple(served.get("upstreams", ())),
        original_name=str(served.get("original", name)),
        tool=str(served.get("tool", name)) if listed else None,
        annotations=served.get("annotations", {}),
        session=str(entry.get("session", "")),
        continues=entry.get("continues") is True,
        arguments=_arguments(entry),
    )


def _kind_of(method: str) -> str:
    kinds = {"prompts/get": "prompt", "resources/read": "resource", "resources/subscribe": "resource"}
    return kinds.get(method, "template" if method == "completion/complete" else "tool")


def _principal(given: Mapping[str, Any]) -> Principal:
    client, _, version = str(given["client"]).rpartition(" ")
    return Principal(
        str(given["id"]),
        verified=given["verified"] is True,
        client_name=client or version,
        client_version=version if client else "",
        address=str(given["address"]),
        subject=str(given.get("subject", "")),
        issuer=str(given.get("issuer", "")),
        groups=frozenset(given.get("groups", ())),
        scopes=frozenset(given.get("scopes", ())),
        claims=given.get("claims", {}),
        profile=str(given.get("profile", "")),
    )


def _arguments(entry: Mapping[str, Any]) -> bytes | None:
    """The arguments as JSON, empty for none; None if they were not kept, or not as a whole."""
    if entry["arguments"] is None:
        return b""
    kept = entry.get("payload", {}).get("arguments")
    if kept is None or kept.get("hidden") or "value" not in kept:
        return None
    return _encode(kept["value"])
