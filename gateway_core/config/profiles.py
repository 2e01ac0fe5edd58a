"""The tables of a profile, `[[mcp.proxy.profiles]]`."""

from __future__ import annotations

import re
from math import isfinite
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field

from gateway_core.config.fields import Filled, Strings, as_tuple, matching, mistake
from gateway_core.config.sections import Section
from gateway_core.mcp.profile_address import PROFILE_NAME

_TOOL_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")  # server/tools, Tool Names


def _visible(value: tuple[str, ...]) -> tuple[str, ...]:
    from gateway_core.api.globs import Globs  # noqa: PLC0415 - only files with profiles need it

    try:
        Globs(glob.removeprefix("!") for glob in value)
    except ValueError as error:
        raise mistake(f"is no list of globs: {error}") from None
    return value


def _json_value(value: Any) -> Any:
    parts = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    if not isinstance(value, dict | list | str | bool | int | float) or (
        isinstance(value, float) and not isfinite(value)
    ):
        raise mistake("must be text, a finite number, a boolean, a list or a table: JSON has nothing else")
    for part in parts:
        _json_value(part)
    return value


VisibleGlobs = Annotated[Strings, AfterValidator(_visible)]
JsonValues = dict[Filled, Annotated[Any, AfterValidator(_json_value)]]
ProfileName = Annotated[
    str,
    AfterValidator(
        matching(PROFILE_NAME, 'must be 1 to 64 letters, digits, "_" or "-", the first a letter or a digit')
    ),
]
ToolName = Annotated[
    str, AfterValidator(matching(_TOOL_NAME, 'must be 1 to 128 letters, digits, "_", "-" or ".", as MCP has them'))
]


class OverrideConfig(Section):
    """What a profile changes about one tool."""

    tool: Filled = Field(
        description="The tool: its published name or `upstream:tool`.", examples=["tickets__search_issues"]
    )
    name: ToolName | None = Field(
        default=None, description="The name that agents of the profile use.", examples=["search_tickets"]
    )
    title: str | None = Field(default=None, description="Its title, for people.", examples=["Search tickets"])
    description: str | None = Field(
        default=None, description="Its description, for models.", examples=["Search the tickets of the support team."]
    )
    annotations: dict[str, bool | str] = Field(
        default_factory=dict,
        description="Hints in place of its own ones with the same names. Plugins believe them as they believe those of "
        "the server.",
        examples=[{"readOnlyHint": True}],
    )
    fixed: JsonValues = Field(
        default_factory=dict,
        description="Arguments that are always sent. Agents do not see them; a call that gives one is refused.",
        examples=[{"project": "SUPPORT"}],
        repr=False,
    )
    defaults: JsonValues = Field(
        default_factory=dict,
        description="Arguments that are sent unless a call gives them. Agents do not see them.",
        examples=[{"limit": 20}],
        repr=False,
    )


class ProfileConfig(Section):
    """A view of the gateway for some agents: fewer tools, under other names, with arguments that are set."""

    name: ProfileName = Field(description="Unique name, also in the address `/mcp/p/NAME`.", examples=["support"])
    title: str | None = Field(default=None, description="The title that agents see.", examples=["Support desk"])
    instructions: str | None = Field(
        default=None,
        description="The instructions for agents, in place of those of the upstreams.",
        examples=["Search before you create a ticket."],
    )
    tools: VisibleGlobs = Field(
        default=("*",),
        description="Globs of the tools: published names or `upstream:tool`; `*` and `?` are wild. A glob after `!` "
        "hides what it matches, whatever the others say.",
        examples=[["tickets__*", "!*delete*"]],
    )
    prompts: VisibleGlobs = Field(default=(), description="The same for prompts.", examples=[["wiki:*"]])
    resources: VisibleGlobs = Field(
        default=(),
        description="The same for the URIs of resources and for URI templates. The user interface of a visible tool "
        "is always included.",
        examples=[["wiki:*"]],
    )
    groups: Strings | None = Field(
        default=None, description="Principals of any of these groups get the profile.", examples=[["support"]]
    )
    claims: dict[str, Filled] | None = Field(
        default=None,
        description="Principals with all of these claims get the profile. A claim that is a list must have the value.",
        examples=[{"team": "support"}],
    )
    by_address: bool = Field(
        default=True,
        description="Whether agents reach it at `/mcp/p/NAME`: all, or those that `groups` and `claims` admit.",
    )
    default: bool = Field(default=False, description="Whether all agents get it that get no other profile.")
    overrides: Annotated[tuple[OverrideConfig, ...], BeforeValidator(as_tuple)] = Field(
        default=(), description="What it changes about single tools."
    )
