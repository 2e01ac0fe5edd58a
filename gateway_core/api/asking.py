"""Questions of plugins to the agent's user, and the answers to them."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

import msgspec

from gateway_core.errors import RpcError
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.read_only import ReadOnlyDict

Action: TypeAlias = Literal["accept", "decline", "cancel"]
"""What the user did with a question."""
NO_ANSWERS: Final[Mapping[str, Answer]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Ask:
    """A question to the agent's user: return it from `before_call`, and the call waits for the answer.

    With `schema` the user fills in a form, with `url` the user opens a page. With neither the user accepts or declines.
    The gateway then runs this `before_call` again, with the answer in `call.answers[name]`.
    """

    message: str
    """What the user reads, in plain text. Make control characters visible in the parts that others wrote."""
    schema: Mapping[str, Any] | None = None
    """The form: a flat JSON schema, as `requestedSchema` of `elicitation/create` allows it. Never ask for secrets."""
    url: str | None = None
    """The http or https address of the page. Only agents that declare URL mode can be asked."""
    name: str = "question"
    """The name of this question among those of the plugin about one call: letters, digits, `.`, `_` and `-`."""
    lifetime: float | None = None
    """Seconds that the user has for the answer; at most, and by default, `question_timeout`."""
    approves: bool = False
    """Whether accepting approves this very call, so that `Approvals` of no other plugin asks for that again.

    `message` must then show the whole call.
    """
    on_page: bool = False
    """Whether a question without form and `url` is answered on a page of the gateway, in a browser, so that the client
    cannot answer for its user. If not, that is so only for agents whose clients open URLs and show no forms."""
    approvers: Collection[str] = ()
    """For answers on a page: the groups whose members may answer. Without any, the agent's own principal may.

    `operator|control-plane` stands for operators, who answer on the control plane.
    """


@dataclass(frozen=True, slots=True)
class Answer:
    """The user's answer to a question. The form's values match its schema."""

    action: Action
    """`decline`: the user said no. `cancel`: the user dismissed the question without a decision."""
    content: Mapping[str, Any] = field(default_factory=ReadOnlyDict)
    """The values of the form, read-only; empty unless the user accepted a form."""

    @property
    def accepted(self) -> bool:
        """Whether the user accepted: submitted the form, agreed to open the page, or said yes."""
        return self.action == "accept"


class GivenAnswer(msgspec.Struct, array_like=True, frozen=True):
    """Called by the core: one answer, and what it is an answer to."""

    plugin: str
    name: str
    subject: bytes
    """The digest of the call that the plugin asked about (`Call.subject`)."""
    action: Action
    content: bytes = b""
    """The JSON of the form's values; empty if there are none."""
    approves: bool = False
    """See `Ask`."""
    by: str = ""
    """The id of the principal that answered on a page; empty if nothing proved it, or if the client answered."""

    def answer(self) -> Answer:
        """The answer as the plugin sees it."""
        return Answer(self.action, jsonrpc.value(self.content, frozen=True)) if self.content else Answer(self.action)


class Answers:
    """Called by the core: the answers to all questions that plugins asked about one call, oldest first."""

    __slots__ = ("_of", "given")

    def __init__(self, given: Sequence[GivenAnswer] = ()) -> None:
        self.given: Final = tuple(given)
        self._of: dict[str, Mapping[str, Answer]] = {}

    def with_one(self, given: GivenAnswer) -> Answers:
        """These answers and a new one. A plugin that asks a question again sees its latest answer."""
        return Answers((*self.given, given))

    def of(self, plugin: str, subject: Callable[[], bytes]) -> Mapping[str, Answer]:
        """The answers to the plugin's questions about the call whose digest `subject` returns.

        The first look decides: a plugin that then rewrites the call sees the same answers in `after_call`.
        """
        found = self._of.get(plugin)
        if found is None:
            own = [it for it in self.given if it.plugin == plugin]
            digest = subject() if own else b""
            found = {it.name: it.answer() for it in own if hmac.compare_digest(it.subject, digest)}
            found = self._of[plugin] = MappingProxyType(found)
        return found

    def approval(self, subject: Callable[[], bytes]) -> Answer | None:
        """The latest answer, to any plugin, whether the call whose digest `subject` returns may be made."""
        own = [it for it in self.given if it.approves]
        digest = subject() if own else b""
        found = [it for it in own if hmac.compare_digest(it.subject, digest)]
        return found[-1].answer() if found else None


_FINE: Final = re.compile(rb"(?=\d*\.\d)[\d.]{17,}|\d{16,}[eE]")
"""A number with a fraction or an exponent and more digits than those that always make another double."""


def digest(name: str, raw_arguments: bytes) -> str:
    """A digest of a call's name and arguments, independent of white space and the order of members."""
    arguments: Any = None
    if raw_arguments:
        try:
            # Ambiguous JSON is bound by its exact text, and so are numbers that a server may read more exactly.
            arguments = raw_arguments.decode() if _FINE.search(raw_arguments) else jsonrpc.value(raw_arguments)
        except RpcError:
            arguments = raw_arguments.decode()
    text = json.dumps([name, arguments], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def subject(method: str, of_request: str, served: Sequence[str] | None) -> bytes:
    """A digest of what a question is about. `of_request`: the call's `digest`. `served`: what serves its name."""
    return hashlib.sha256(json.dumps([method, of_request, served]).encode()).digest()
