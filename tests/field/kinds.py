"""All kinds of odd servers: what is odd, how clients use them, and how the gateway answers.

A server is `KIND-VARIANT`, its name and the name of its upstream. `docs/compatibility.md` has the table of all of them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.field import plan
from tests.field.definitions.server import BEYOND_REPAIR, MEMBERS
from tests.field.names.server import NAMES
from tests.field.plan import ANY, ERROR, Step, call, wait

HERE: Final = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Kind:
    """One folder."""

    folder: str
    odd: str
    """What is odd, for the table; a sentence without its full stop."""
    variants: tuple[str, ...]
    steps: Callable[[str, str], list[Step]] = lambda server, variant: plan.usual(server)
    """The steps of one server by its name and its variant."""
    answer: str = "works"
    """How the gateway answers, for the table."""
    transport: str = "http"
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Further keys of the upstream."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Variants that the gateway does not work with, and why."""


def definitions(server: str, variant: str) -> list[Step]:
    steps = plan.usual(server)
    odd = {"tools": f"{server}_odd", "prompts": f"{server}_odd", "resources": f"memo://{server}/odd"}
    for step in steps[:3]:
        if variant in MEMBERS[step["do"]] and variant not in BEYOND_REPAIR:
            step["right"].append(odd[step["do"]])
    return steps


def failing_list(server: str, variant: str) -> list[Step]:
    return [*plan.lists(server, prompts=()), *plan.calls(server), *plan.reads(server)[:1]]


def named(server: str, variant: str) -> list[Step]:
    return [{"do": "call all", "described": server, "right": sorted(NAMES[variant])}]


def instance(server: str, variant: str) -> list[Step]:
    return [{**call("where", f"in {variant}"), "through": f"{server}:where"}]


def blocking(server: str, variant: str) -> list[Step]:
    tools = ("echo", "add", "block")
    return [*plan.lists(server, tools=tools), call(f"{server}_block", "done", seconds=1.5), *plan.calls(server)]


def with_odd_results(server: str, variant: str) -> list[Step]:
    steps = plan.usual(server)
    if variant in {"flags-null", "content-missing", "content-extra"}:
        return [{**step, "right": ANY} if step["do"] == "call" else step for step in steps]
    return steps


def after_a_while(server: str, variant: str) -> list[Step]:
    return [*plan.usual(server), wait(0.2), *plan.calls(server)]


def forgetful(server: str, variant: str) -> list[Step]:
    lost = [call(f"{server}_forget", "forgotten"), call(f"{server}_echo", ANY, text=plan.TEXT)]
    return [*plan.lists(server, tools=("echo", "add", "forget")), *plan.calls(server), *lost, *plan.calls(server)]


def faulty(server: str, variant: str) -> list[Step]:
    tools = ("echo", "add", "spoil")
    return [*plan.lists(server, tools=tools), call(f"{server}_spoil", ERROR), *plan.calls(server)]


def growing(server: str, variant: str) -> list[Step]:
    before, after = ("echo", "add", "grow"), ("echo", "add", "grow", "grown")
    grown = [call(f"{server}_grow", "grown: True"), wait(0.5), *plan.lists(server, tools=after)[:1]]
    shrunk = [call(f"{server}_grow", "grown: False"), wait(1.5), *plan.lists(server, tools=before)[:1]]
    return [*plan.lists(server, tools=before), *plan.calls(server), *grown, *shrunk]


def broken_encoding(server: str, variant: str) -> list[Step]:
    if variant not in {"cut", "bomb"}:
        return plan.usual(server)
    return [*plan.lists(server), call(f"{server}_echo", ERROR, text=plan.TEXT)]


CHANGES_METHOD: Final = "a client repeats the request as GET after it, so the message would be lost"

KINDS: Final = (
    Kind("usual", "nothing: a server to compare with", ("plain",)),
    Kind(
        "definitions",
        "a definition with a malformed member among good ones",
        tuple(variant for variants in MEMBERS.values() for variant in variants),
        definitions,
        "repaired; what cannot be repaired (a schema that is a text, an entry that is null, a resource without a "
        "scheme) is left out with a warning, and the rest is published",
    ),
    Kind(
        "lists",
        "the list of prompts fails, and tools and resources work",
        (
            *("null", "missing", "text", "result-null", "internal-error", "unknown-method", "own-code"),
            *("http-500", "silent"),
        ),
        failing_list,
        "the other lists are published; the failing one is empty and is asked again",
        settings={"start_timeout": 3},
    ),
    Kind("cursors", "cursors that are no text", ("number", "text", "null", "empty", "false")),
    Kind(
        "instances",
        "two instances of one server with different arguments",
        ("left", "right"),
        instance,
        "two upstreams; no call of one reaches the other",
        transport="stdio",
    ),
    Kind(
        "names",
        "names of tools with other scripts, white space, separators, or more than 128 characters",
        ("scripts", "separators", "long", "case", "reserved"),
        named,
        "each tool is published under a name that fits, and no two are equal",
    ),
    Kind(
        "ping",
        "`ping` is refused, or not answered",
        (
            *("code-32600", "code-32601", "code-32603", "code-1", "result-null"),
            *("http-400", "http-405", "http-500", "http-501", "http-202", "silent"),
        ),
        after_a_while,
        "the upstream counts as alive, and nothing is started again",
        settings={"health_check_interval": 0.2},
    ),
    Kind(
        "blocking",
        "a tool that blocks the only thread of its server",
        ("sleep",),
        blocking,
        "the call ends, and the process lives on",
        transport="stdio",
        settings={"health_check_interval": 0.3},
    ),
    Kind("slow_start", "a server that reads nothing for seconds", ("seconds",), transport="stdio"),
    Kind(
        "banner",
        "other text than JSON-RPC on standard output",
        ("banner", "bom", "blank-lines", "colours", "json-log", "between", "crlf", "pieces"),
        transport="stdio",
    ),
    Kind(
        "get_stream",
        "`GET` is answered with something else than 405 or a stream",
        (
            *("204", "400", "401", "404", "406", "429", "500", "501", "503", "json", "page", "error-in-json"),
            *("hang-up", "silent", "ends-at-once"),
        ),
        after_a_while,
        "there is no standalone stream; the session goes on",
    ),
    Kind(
        "lost_session",
        "a session is lost, and the server says so in one of many ways",
        (
            *(
                "404",
                "404-error",
                "400-error",
                "400-text",
                "401-error",
                "401-any",
                "410",
                "200-error",
                "not-initialized",
            ),
        ),
        forgetful,
        "a new session is opened, and the next call works",
        refused={"401-any": "401 to `server/discover` asks for credentials; the TypeScript client 2 reads it so too"},
    ),
    Kind(
        "encoding",
        "compressed answers that no client asked for",
        (
            *("gzip", "x-gzip", "upper-case", "deflate", "deflate-raw", "gzip-events", "identity"),
            *("utf-8", "none", "no-trailer", "cut", "bomb", "twice"),
        ),
        broken_encoding,
        "decoded; a body that is cut, or that is larger than `limits.response_body` once decoded, is an error of its "
        "call",
    ),
    Kind("cookies", "a load balancer keeps clients by a cookie", ("plain", "attributes", "expires", "each-answer")),
    Kind(
        "redirects",
        "the endpoint redirects",
        (
            *("307", "308", "relative", "absolute", "query"),
            *("301", "302", "303", "loop", "no-target", "other-origin"),
        ),
        answer="307 and 308 within the same origin are followed",
        refused={
            "301": CHANGES_METHOD,
            "302": CHANGES_METHOD,
            "303": CHANGES_METHOD,
            "loop": "it never ends",
            "no-target": "it names no address",
            "other-origin": "headers and credentials of the upstream would reach another party; the error names it",
        },
    ),
    Kind(
        "ids",
        "the id of a request comes back as another JSON type",
        ("text", "fraction"),
        refused={"fraction": "`1.0` is no id of JSON-RPC; the Python clients refuse it too"},
    ),
    Kind(
        "almost_json",
        "an answer that is almost JSON",
        ("nan", "control", "comma", "quotes", "cut", "latin-1"),
        faulty,
        "each such answer is an error of its call at once; other calls work",
        transport="stdio",
    ),
    Kind(
        "notifications",
        "notifications with `params: null` or `id: null`",
        ("params-null", "id-null", "both-null", "params-missing"),
        growing,
        transport="stdio",
    ),
    Kind(
        "envelopes",
        "responses with too many members, too few, or null",
        (
            *("error-null", "result-null", "extra", "no-version", "no-server", "instructions-null"),
            *("capability-null", "capability-true", "flags-null", "content-missing", "content-extra"),
            *("revision-2024", "no-jsonrpc", "jsonrpc-1", "revision-unknown"),
        ),
        with_odd_results,
        "works; the result of a call reaches the client unchanged, and the client decides",
        refused={
            "no-jsonrpc": "no official client reads a message without `jsonrpc`",
            "jsonrpc-1": "no official client reads another version of JSON-RPC",
            "revision-unknown": "no official client knows that revision",
        },
    ),
    Kind(
        "headers",
        "unusual HTTP: case, chunks, HTTP/1.0, content types, answers to notifications",
        (
            *("lower-case", "upper-case", "no-spaces", "charset", "charset-quoted", "no-reason", "201", "close"),
            *("http-1.0", "early-hints", "many", "no-length", "chunks", "chunk-extras", "text-plain", "no-type"),
            *("two-lengths", "notice-200", "notice-204", "notice-json", "notice-null"),
        ),
        refused={
            "text-plain": "not marked as JSON; all official clients refuse it too",
            "no-type": "not marked as JSON; all official clients refuse it too",
            "two-lengths": "two parsers would find two bodies in it",
        },
    ),
    Kind(
        "events",
        "event streams with unusual lines, fields and pieces",
        (
            *("crlf", "cr", "no-space", "comments", "ids", "priming", "empty-data", "bom", "other-fields"),
            *("other-events", "pieces", "several-lines", "length", "no-end"),
        ),
        refused={"no-end": "an event without its empty line is not complete; no official client reads it"},
    ),
)


@dataclass(frozen=True)
class OddServer:
    """One variant of a kind."""

    kind: Kind
    variant: str

    @property
    def name(self) -> str:
        return f"{self.kind.folder.replace('_', '-')}-{self.variant.lower()}"

    @property
    def steps(self) -> list[Step]:
        return self.kind.steps(self.name, self.variant)

    @property
    def refused(self) -> str:
        """Why the gateway does not work with it; empty for a server that it works with."""
        return self.kind.refused.get(self.variant, "")

    @property
    def command(self) -> list[str]:
        """Of a server on stdio."""
        script = str(HERE / self.kind.folder / "server.py")
        return [sys.executable, script, self.name, self.variant]

    def upstream(self, urls: Mapping[str, str]) -> dict[str, Any]:
        """Its table in the configuration; `urls` has the addresses of servers on HTTP."""
        if self.kind.transport == "http":
            where: dict[str, Any] = {"transport": "http", "url": urls[self.name]}
        else:
            where = {"transport": "stdio", "command": self.command[0], "args": self.command[1:]}
        return {"name": self.name, **where, **self.kind.settings}

    def __str__(self) -> str:
        return self.name


def servers() -> Iterator[OddServer]:
    """All odd servers."""
    for kind in KINDS:
        for variant in kind.variants:
            yield OddServer(kind, variant)
