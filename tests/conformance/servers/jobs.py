"""The tools whose calls a server with the extension for tasks may make tasks of. Other servers let callers wait."""

import asyncio
from collections.abc import Mapping
from typing import Any

from registry import TEXT, Caller, RefusedError, form, job, tool_with


@tool_with(name=TEXT)
async def greet(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    """Answers at once."""
    return f"Hello, {arguments['name']}!"


@job(seconds={"type": "number"}, label=TEXT, required=["seconds"])
async def slow_compute(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    """Takes some seconds."""
    await asyncio.sleep(arguments["seconds"])
    return f"computed {arguments.get('label', '')}"


@job(always=True)
async def failing_job(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    """Fails after a while; is a task or nothing."""
    await asyncio.sleep(0.5)
    raise RuntimeError("This job intentionally fails")


@job()
async def protocol_error_job(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    """Ends in an error of the protocol."""
    await asyncio.sleep(0.2)
    raise RefusedError(-32603, "This job intentionally ends in an error of the protocol", None)


@job(filename=TEXT)
async def confirm_delete(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    """Asks the user whether it may."""
    question = form(f"Delete {arguments['filename']}?", {"confirm": {"type": "boolean"}})
    answers = await caller.ask({"confirm_delete": question})
    confirmed = (answers["confirm_delete"].get("content") or {}).get("confirm") is True
    return f"{arguments['filename']} was {'deleted' if confirmed else 'kept'}"


@job()
async def multi_input(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    """Asks the user two things at once."""
    questions = {
        "name": form("What is your name?", {"name": TEXT}),
        "confirm": form("Are you sure?", {"confirm": {"type": "boolean"}}),
    }
    answers = await caller.ask(questions)
    return f"Answered: {', '.join(sorted(answers))}"


async def _name(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    answers = await caller.ask({"user_name": form("What is your name?", {"name": TEXT})})
    return {"user_name": (answers["user_name"].get("content") or {}).get("name", "stranger")}


@job(always=True, first=_name)
async def test_tool_with_task(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    """Asks the user for a name before it becomes a task."""
    return f"Hello, {arguments['user_name']}!"
