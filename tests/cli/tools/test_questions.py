"""Questions at a terminal: what the person sees and types, and what the gateway gets."""

import asyncio
import os
import pty
import sys
import termios
from collections.abc import Iterator
from typing import Any

import pytest
from mcp_types import ElicitRequestFormParams, ElicitRequestURLParams

from gateway_core.cli.tools.questions import Terminal, answer

FORM = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "title": "City", "description": "Where to look"},
        "days": {"type": "integer", "default": 3},
        "unit": {"type": "string", "enum": ["C", "F"]},
        "note": {"type": "string"},
    },
    "required": ["city", "unit"],
}


@pytest.fixture
def keyboard() -> Iterator[tuple[int, int]]:
    """Both ends of a terminal: where keys are typed, and where the program reads."""
    typed, read = pty.openpty()
    settings = termios.tcgetattr(read)
    settings[3] &= ~termios.ECHO
    termios.tcsetattr(read, termios.TCSANOW, settings)
    yield typed, read
    os.close(typed)
    os.close(read)


async def ask(keyboard: tuple[int, int], params: Any, *lines: str) -> dict[str, Any]:
    typed, read = keyboard
    asking = asyncio.ensure_future(answer(Terminal(read), params))
    for line in lines:
        os.write(typed, line.encode())
        await asyncio.sleep(0.05)
    async with asyncio.timeout(60):
        return await asking


def form(schema: dict[str, Any] | None = None, message: str = "Which?", **meta: Any) -> ElicitRequestFormParams:
    schema = schema or {"type": "object", "properties": {}}
    given = {"message": message, "requestedSchema": schema, "_meta": meta}
    return ElicitRequestFormParams.model_validate(given)


@pytest.mark.parametrize(("line", "action"), [("yes\n", "accept"), ("Y\n", "accept"), ("no\n", "decline")])
async def test_a_question_without_fields_is_accepted_or_declined(keyboard: Any, line: str, action: str) -> None:
    assert (await ask(keyboard, form(), line))["action"] == action


async def test_an_unclear_answer_is_asked_for_again(keyboard: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert (await ask(keyboard, form(), "\n", "perhaps\n", "yes\n"))["action"] == "accept"
    assert capsys.readouterr().err.count("[yes/no]") == 3


async def test_the_end_of_the_input_cancels(keyboard: Any) -> None:
    assert await ask(keyboard, form(), "\x04") == {"action": "cancel"}
    assert await ask(keyboard, form(FORM), "yes\n", "\x04") == {"action": "cancel"}


async def test_fields_get_values_of_their_types(keyboard: Any, capsys: pytest.CaptureFixture[str]) -> None:
    found = await ask(keyboard, form(FORM), "yes\n", "\n", "Rom\n", "X\n", "F\n", "many\n", "5\n", "\n")
    assert found == {"action": "accept", "content": {"city": "Rom", "unit": "F", "days": 5}}
    said = capsys.readouterr().err
    assert said.count("City: ") == 2, "a required field is asked for again"
    assert 'unit must be one of "C" or "F"' in said
    assert "days must be a whole number" in said


async def test_a_default_counts_for_an_empty_line(keyboard: Any) -> None:
    found = await ask(keyboard, form(FORM), "yes\n", "Rom\n", "C\n", "\n", "\n")
    assert found["content"] == {"city": "Rom", "unit": "C", "days": 3}


async def test_an_address_is_shown_and_not_opened(keyboard: Any, capsys: pytest.CaptureFixture[str]) -> None:
    params = ElicitRequestURLParams(message="Log in", url="https://login.example/x", elicitation_id="1")
    assert await ask(keyboard, params, "yes\n") == {"action": "accept"}
    assert "https://login.example/x" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("meta", "who"),
    [
        ({"dev.radium.gateway/upstream": "files"}, "upstream files asks:"),
        ({"dev.radium.gateway/plugin": "p", "dev.radium.gateway/upstream": None}, "plugin p asks:"),
        ({}, "the gateway asks:"),
    ],
)
async def test_the_person_sees_who_asks(keyboard: Any, meta: Any, who: str, capsys: pytest.CaptureFixture[str]) -> None:
    await ask(keyboard, form(message="one\ntwo \x1b[2J", **meta), "no\n")
    said = capsys.readouterr().err
    assert who in said
    assert "  one\n  two \\x1b[2J\n" in said


async def test_a_question_can_be_cancelled_while_it_waits(keyboard: Any) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await answer(Terminal(keyboard[1]), form())
    assert (await ask(keyboard, form(), "yes\n"))["action"] == "accept"


@pytest.mark.parametrize(("typed", "code", "said"), [(b"yes\n", 0, "5"), (b"no\n", 1, "the user declined it")])
def test_a_call_asks_the_person_at_the_terminal(
    typed: bytes, code: int, said: str, spawn: Any, project: Any, keyboard: Any, wait_for: Any, wait_for_upstream: Any
) -> None:
    with (project / ".radium" / "mcp-proxy.toml").open("a") as file:
        file.write(
            '[[mcp.proxy.upstreams]]\nname = "demo"\ntransport = "stdio"\n'
            f'command = "{sys.executable}"\nargs = ["-m", "gateway_core.demo.stdio_server"]\n'
            '[[mcp.proxy.plugins]]\nname = "security_approval"\nalways = ["add"]\n'
        )
    spawn("start")
    wait_for_upstream("demo")
    child = spawn("call", "add", "--arg", "a=2", "--arg", "b=3", stdin=keyboard[1], stderr=keyboard[1])
    shown = b""

    def asked() -> bool:
        nonlocal shown
        shown += os.read(keyboard[0], 4096)
        return b"[yes/no]" in shown

    wait_for(asked)
    assert b"plugin security_approval asks:" in shown
    os.write(keyboard[0], typed)
    out, _ = child.communicate(timeout=100)
    assert child.returncode == code
    while code and said.encode() not in shown:
        shown += os.read(keyboard[0], 65536)
    assert code or said in out
