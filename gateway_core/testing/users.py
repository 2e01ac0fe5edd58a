"""The user of an agent, and the agent's way back to it: who answers the questions of plugins in `run_call`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Raw

from gateway_core.api import Answer, Answers, Call, CallResult, GivenAnswer
from gateway_core.exchange.back import NoBackChannel
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import REQUESTS, RESPONSES, STATE


class FakeUser:
    """The user of an agent: records the questions of plugins in `asked`, and gives `answers` in their order."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self.failure: AssertionError | None = None
        """Why a question got no answer: a mistake in the test."""
        self.asked: list[Mapping[str, Any]] = []
        """The params of each `elicitation/create`: `message`, and `requestedSchema` or `url`."""

    def answer(self, params: bytes) -> bytes:
        """Record a question, and return the next answer. Raises `AssertionError` if there is none."""
        self.asked.append(jsonrpc.value(params, frozen=True))
        if not self._answers:
            self.failure = AssertionError(f"the user has no answer to question {len(self.asked)}")
            raise self.failure
        answer = self._answers.pop(0)
        return jsonrpc.encode({"action": answer.action, "content": answer.content})

    def retry(self, result: CallResult) -> dict[str, Raw]:
        """The members with which a modern agent sends a call again, after a result that asks the user."""
        asked = jsonrpc.members(result.raw)
        responses = {
            name: Raw(self.answer(bytes(jsonrpc.members(question)["params"])))
            for name, question in jsonrpc.members(asked[REQUESTS]).items()
        }
        return {RESPONSES: Raw(jsonrpc.encode(responses)), STATE: asked[STATE]}


class FakeBack(NoBackChannel):
    """The back channel of a request with headers, to an agent that cannot be asked."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        self.fields = fields


class UserBack:
    """The back channel to a legacy agent with a user."""

    def __init__(self, user: FakeUser, fields: Mapping[str, str]) -> None:
        """`fields`: the headers of the request."""
        self._user = user
        self.fields = fields

    def notify(self, method: str, params: bytes) -> None:
        return

    async def ask(self, method: str, params: bytes) -> bytes:
        return self._user.answer(params)


def answered(call: Call, answers: Mapping[str, Answer], by: str = "") -> Call:
    """The call with answers to the questions of the plugin that gets it, by the names of the questions.

    `by`: the id of the principal that gave them on a page; empty for the agent's client.
    """
    subject = call.subject()
    return call.with_answers(
        Answers(
            [
                GivenAnswer("", name, subject, answer.action, jsonrpc.encode(answer.content), by=by)
                for name, answer in answers.items()
            ]
        )
    )
