"""The tools and the prompt that ask their caller something: the user, the model, or for the roots."""

import json
from collections.abc import Mapping
from typing import Any

from registry import (
    ROOTS,
    TEXT,
    Caller,
    RefusedError,
    UnsupportedError,
    form,
    message,
    prompt,
    sampling,
    text,
    tool,
    tool_with,
)


def _outcome(answer: Mapping[str, Any]) -> str:
    return f"action={answer.get('action')}, content={json.dumps(answer.get('content') or {}, sort_keys=True)}"


def _spoken(answer: Mapping[str, Any]) -> str:
    content = answer.get("content")
    return str(content.get("text", "")) if isinstance(content, dict) else ""


@tool_with(prompt=TEXT)
async def test_sampling(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    """Asks the caller's model."""
    answers = await caller.ask({"sampling": sampling(arguments["prompt"])})
    return f"LLM response: {_spoken(answers['sampling'])}"


@tool_with(message=TEXT)
async def test_elicitation(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    """Asks the user for a name and an address."""
    fields = {"username": {**TEXT, "description": "A name"}, "email": {**TEXT, "description": "An address"}}
    answers = await caller.ask({"elicitation": form(arguments["message"], fields)})
    return f"User response: {_outcome(answers['elicitation'])}"


@tool
async def test_elicitation_sep1034_defaults(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    """Asks the user, with a default in each field."""
    fields = {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    }
    answers = await caller.ask({"elicitation": form("Please check what is filled in", fields, [])})
    return f"Elicitation completed: {_outcome(answers['elicitation'])}"


@tool
async def test_elicitation_sep1330_enums(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    """Asks the user to choose, in each way that a choice can be written."""
    values = ["value1", "value2", "value3"]
    titled = [{"const": value, "title": f"Choice {value[-1]}"} for value in values]
    options = ["option1", "option2", "option3"]
    fields = {
        "untitledSingle": {"type": "string", "enum": options},
        "titledSingle": {"type": "string", "oneOf": titled},
        "legacyEnum": {"type": "string", "enum": ["opt1", "opt2"], "enumNames": ["Option 1", "Option 2"]},
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": options}},
        "titledMulti": {"type": "array", "items": {"anyOf": titled}},
    }
    answers = await caller.ask({"elicitation": form("Please choose", fields)})
    return f"Elicitation completed: {_outcome(answers['elicitation'])}"


@tool
async def test_missing_capability(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    """Needs a caller with a model."""
    answers = await caller.ask({"sampling": sampling("Say hello")})
    return f"The caller has a model, and it says: {_spoken(answers['sampling'])}"


@tool
async def test_streaming_elicitation(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    """Progress first, then a question."""
    await caller.progress(0, 1)
    answers = await caller.ask({"user_name": form("What is your name?", {"name": TEXT})})
    return _outcome(answers["user_name"])


@tool
async def test_input_required_result_elicitation(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    """Asks the user for a name."""
    answers = await caller.ask({"user_name": form("What is your name?", {"name": TEXT})})
    return f"Hello, {(answers['user_name'].get('content') or {}).get('name', 'stranger')}!"


@tool
async def test_input_required_result_sampling(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    """Asks the caller's model for a capital."""
    answers = await caller.ask({"capital_question": sampling("What is the capital of France?")})
    return f"The model says: {_spoken(answers['capital_question'])}"


@tool
async def test_input_required_result_list_roots(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    """Asks the caller for its roots."""
    answers = await caller.ask({"client_roots": ROOTS})
    return "Roots: " + ", ".join(str(root["uri"]) for root in answers["client_roots"].get("roots", ()))


@tool
async def test_input_required_result_request_state(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    """Asks for a confirmation, and has the caller keep the state meanwhile."""
    answers = await caller.ask({"confirm": form("Please confirm", {"ok": {"type": "boolean"}})}, state="asked")
    return f"state-ok: {_outcome(answers['confirm'])}"


@tool
async def test_input_required_result_tampered_state(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    """Asks for a confirmation, with a state that nobody may change."""
    answers = await caller.ask({"confirm": form("Please confirm", {"ok": {"type": "boolean"}})}, state="sealed")
    return f"state-ok: {_outcome(answers['confirm'])}"


@tool
async def test_input_required_result_multiple_inputs(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    """Asks for a name, a greeting and the roots at once."""
    questions = {
        "user_name": form("What is your name?", {"name": TEXT}),
        "greeting": sampling("Generate a greeting", 50),
        "client_roots": ROOTS,
    }
    answers = await caller.ask(questions, state="three")
    return f"Answered: {', '.join(sorted(answers))}"


@tool
async def test_input_required_result_multi_round(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    """Asks for a name, then for a colour."""
    first = await caller.ask({"step1": form("Step 1: What is your name?", {"name": TEXT})}, state="named")
    question = {"step2": form("Step 2: What is your favorite color?", {"color": TEXT})}
    second = await caller.ask(question, state="coloured")
    name, colour = (first["step1"].get("content") or {}), (second["step2"].get("content") or {})
    return f"{name.get('name')} likes {colour.get('color')}"


@tool
async def test_input_required_result_capabilities(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    """Asks for as much as the caller can answer."""
    questions = {"ask": form("What is your name?", {"name": TEXT}), "sample": sampling("Say hello", 50)}
    answers: dict[str, Any] = {}
    for key, question in questions.items():
        try:
            answers.update(await caller.ask({key: question}, state=key))
        except (UnsupportedError, RefusedError):
            continue
    if not answers:
        raise UnsupportedError("sampling")
    return f"Answered: {', '.join(sorted(answers))}"


@prompt()
async def test_input_required_result_prompt(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    """A prompt that asks the user first."""
    answers = await caller.ask({"user_context": form("What context should the prompt use?", {"context": TEXT})})
    return [message(text(f"Context: {(answers['user_context'].get('content') or {}).get('context', '')}"))]
