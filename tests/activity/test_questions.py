"""Operators answer the questions of plugins that name them as approvers, while clients of the official SDK wait."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import mcp_types as types
import pytest
from mcp import MCPError

from gateway_core.api import OPERATOR
from gateway_core.pipeline.input_required import plugin_questions
from tests.activity.conftest import MODERN, READ_TOKEN, TOKEN, Stand, eventually

pytestmark = pytest.mark.timeout(180)
BOTH = pytest.mark.parametrize("era", ["legacy", MODERN])


@dataclass
class User:
    """The user of an agent, whose client opens addresses."""

    opened: list[str] = field(default_factory=list)
    hold: asyncio.Event | None = None
    """The client agrees once this is set; meanwhile the call of a modern agent is parked."""

    async def __call__(self, _: Any, params: Any) -> types.ElicitResult:
        self.opened.append(params.url)
        if self.hold is not None:
            await self.hold.wait()
        return types.ElicitResult(action="accept")


@dataclass
class Calling:
    """A call that waits for an operator."""

    stand: Stand
    user: User
    task: asyncio.Task[str]

    async def question(self, **expected: Any) -> dict[str, Any]:
        """The question, once it is listed with these values."""

        async def found() -> Any:
            listed = (await self.stand.ask("/admin/questions"))["questions"]
            return [one for one in listed if one.items() >= expected.items()]

        (one,) = await eventually(found)
        result: dict[str, Any] = one
        return result

    async def answer(self, question_id: str, approve: Any, status: int = 200, **options: Any) -> Any:
        body = {"approve": approve}
        return await self.stand.ask(f"/admin/questions/{question_id}/answer", "POST", status, body=body, **options)

    async def status_of_answer(self, question_id: str, approve: bool) -> int:
        url = f"{self.stand.gateway.control.address}/admin/questions/{question_id}/answer"
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with self.stand.http.post(url, json={"approve": approve}, headers=headers) as response:
            return response.status


def approval(*approvers: str) -> dict[str, Any]:
    return {"name": "security_approval", "always": ["echo"], "answer": "page", "approvers": list(approvers)}


@asynccontextmanager
async def calling(stand: Stand, era: str, user: User | None = None) -> AsyncIterator[Calling]:
    user = user or User()

    async def call(client: Any) -> str:
        try:
            return str((await client.call_tool("echo", {"text": "payload"})).content[0].text)
        except MCPError as error:
            return error.message

    async with stand.client(era, elicitation_callback=user) as client:
        task = asyncio.create_task(call(client))
        try:
            yield Calling(stand, user, task)
        finally:
            task.cancel()
            await asyncio.wait({task})


def entries(stand: Stand) -> list[dict[str, Any]]:
    path = stand.path.parent / "audit.jsonl"
    return [entry for line in path.read_text().splitlines() if (entry := json.loads(line)).get("name") == "echo"]


@BOTH
@pytest.mark.parametrize("approve", [True, False])
async def test_an_operator_answers_once_and_audit_says_so(stand: Stand, era: str, *, approve: bool) -> None:
    await stand.start(plugins=[{"name": "audit_log", "sync": "each"}, approval(OPERATOR.id)])
    async with calling(stand, era) as call:
        question = await call.question(kind="approval")
        assert question["source"] == "security_approval"
        assert question["allowed"] == ["approve", "deny", "cancel"]
        assert "Server: desk\nTool: echo\n" in question["text"]
        assert question["id"] != question["exchange"]
        statuses = await asyncio.gather(*(call.status_of_answer(question["id"], approve) for _ in range(3)))
        assert statuses.count(200) == 1
        assert set(statuses) <= {200, 404, 409}
        said = await call.task
        assert said == "payload" if approve else "the user declined it" in said
        await call.answer(question["id"], approve, 404)
        assert (await stand.ask("/admin/questions"))["questions"] == []
        assert len(call.user.opened) == 1

    async def recorded() -> Any:
        return await asyncio.to_thread(entries, stand)

    last = (await eventually(recorded))[-1]
    assert last["answered_by"] == [OPERATOR.id]


@BOTH
async def test_a_call_whose_client_has_not_opened_the_page_yet_is_answered(stand: Stand, era: str) -> None:
    await stand.start(plugins=[approval(OPERATOR.id)])
    user = User(hold=asyncio.Event())
    async with calling(stand, era, user) as call:
        question = await call.question(kind="approval")
        await call.answer(question["id"], True)
        if era == MODERN:
            assert not call.task.done()
            waiting = await call.question(kind="parked", allowed=["cancel"])
            assert waiting["exchange"] == question["exchange"]
            await call.answer(question["id"], False, 409)
        assert user.hold is not None
        user.hold.set()
        assert await call.task == "payload"


async def test_a_question_keeps_its_id_when_a_modern_agent_is_asked_again(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugin_questions, "PATIENCE", 0.2)
    await stand.start(plugins=[approval(OPERATOR.id)])
    async with calling(stand, MODERN) as call:
        first = await call.question(kind="approval")

        async def moved() -> Any:
            return (await call.question(id=first["id"]))["exchange"] != first["exchange"] and len(call.user.opened) > 1

        await eventually(moved)
        await call.answer(first["id"], True)
        assert await call.task == "payload"
    assert len(set(call.user.opened)) == 1


@BOTH
@pytest.mark.parametrize("approvers", [(), ("operator",), ("control-plane", "leads")])
async def test_operators_answer_nothing_by_default(stand: Stand, era: str, approvers: tuple[str, ...]) -> None:
    await stand.start(plugins=[approval(*approvers)])
    async with calling(stand, era) as call:
        question = await call.question(kind="approval")
        assert (question["allowed"], question["text"]) == (["cancel"], "")
        refused = await call.answer(question["id"], True, 403)
        assert "approvers do not name operator|control-plane" in refused["error"]
        assert not call.task.done()
        await stand.ask(f"/admin/questions/{question['id']}/cancel", "POST")
        assert "payload" not in await call.task


@BOTH
async def test_neither_readers_nor_agents_answer(stand: Stand, era: str) -> None:
    await stand.start(plugins=[approval(OPERATOR.id)])
    async with calling(stand, era) as call:
        question = await call.question(kind="approval")
        await call.answer(question["id"], True, 403, token=READ_TOKEN)
        await call.answer(question["id"], True, 401, token="")
        token = call.user.opened[0].rpartition("/")[2]
        await call.answer(question["id"], True, 401, token=token)
        await call.answer(token, True, 404)
        for body in ("yes", 1, None):
            await call.answer(question["id"], body, 422)
        async with stand.http.get(call.user.opened[0]) as page:
            shown = await page.text()
        assert "An operator of this gateway answers the question" in shown
        assert "<form" not in shown
        async with stand.http.post(call.user.opened[0], data={"answer": "approve"}) as page:
            assert page.status == 403
        address = f"{stand.gateway.address}/admin/questions/{question['id']}/answer"
        async with stand.http.post(address, json={"approve": True}) as response:
            assert response.status in {401, 404, 405}
        assert not call.task.done()
        await call.answer(question["id"], False)
        assert "the user declined it" in await call.task
