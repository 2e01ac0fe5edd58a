"""`rad mcp proxy access`: what the rules allow a principal, and why."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Final

import typer

from gateway_core import CommandContext, CommandError, CommandGroup, ConfigOption, JsonOption, Principal, Tool
from gateway_security_policy.access import Explanation, deciding, decision, explain
from gateway_security_policy.plans import Verdict
from gateway_security_policy.policy import Policy
from gateway_security_policy.rules import Match
from gateway_security_policy.settings import OUTCOME, RuleConfig, Settings

NAME: Final = "security_policy"
_GROUP: Final = "group:"
_FREE: Final = Verdict("allow", None)
"""The outcome without rules."""
_WORDS: Final = {"allow": "allow", "deny": "deny", "ask": "ask a person", "depends": "depends"}
_MATCHES: Final = {Match.YES: "yes", Match.NO: "no", Match.OPEN: "depends", Match.FAILED: "no value"}

app = CommandGroup("What the rules of security_policy allow a principal, and why.")


@app.command("access")
def access(
    who: Annotated[
        str, typer.Option("--as", metavar="WHO", help="The subject of a principal, or group:NAME for any of a group.")
    ],
    tool: Annotated[
        str | None, typer.Argument(metavar="TOOL", help="A tool, also as upstream:tool. Without it, all tools.")
    ] = None,
    *,
    groups: Annotated[
        list[str] | None, typer.Option("--group", metavar="NAME", help="A group of it; repeatable.")
    ] = None,
    scopes: Annotated[list[str] | None, typer.Option("--scope", metavar="NAME", help="A scope; repeatable.")] = None,
    issuer: Annotated[str, typer.Option("--issuer", metavar="NAME", help="Who vouches for it.")] = "",
    claims: Annotated[str, typer.Option("--claims", metavar="JSON", help="Its claims, as a JSON object.")] = "{}",
    profile: Annotated[
        str, typer.Option("--profile", metavar="NAME", help="The profile that its agent uses; TOOL is a name in it.")
    ] = "",
    unverified: Annotated[
        bool, typer.Option("--unverified", help="WHO is the id of an agent that proves nothing: NAME@ADDRESS.")
    ] = False,
    arguments: Annotated[
        str | None, typer.Option("--arguments", metavar="JSON", help="The arguments of the call, as a JSON object.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a principal may call, or which rule decides about one tool and why.

    Examples: rad mcp proxy access --as alice --group dev; rad mcp proxy access --as group:dev search
    """
    context = CommandContext.of(NAME, Settings, config)
    principal = _principal(who, groups or [], scopes or [], issuer, _object(claims, "--claims"), unverified=unverified)
    principal = replace(principal, profile=profile)
    given = None if arguments is None else _object(arguments, "--arguments")
    policy = Policy(context.settings)
    tools = context.tools(tool, profile=profile)
    if tool is not None and not tools:
        raise CommandError(f"no tool {tool}: its calls are denied\n  to list all tools: {context.command('tools')}")
    found = [(one, explained(policy, principal, one, given)) for one in tools]
    if as_json:
        context.put_json(
            {
                "principal": principal.id,
                "enabled": context.enabled,
                "mode": context.settings.mode,
                "tools": [_shown(one, explanations, steps=tool is not None) for one, explanations in found],
            }
        )
    elif tool is None:
        rows = [(_name(one), ", ".join(one.upstreams), *_decided(policy, explanations)) for one, explanations in found]
        context.put_table(("tool", "upstreams", "decision", "rule"), rows, whole={"tool", "decision"})
    else:
        _explain(context, policy, *found[0])
    _warn(context, policy, principal)


def explained(
    policy: Policy, principal: Principal, tool: Tool, arguments: Mapping[str, Any] | None
) -> list[Explanation]:
    """What the rules decide about a tool at each of its upstreams."""
    return [
        explain(policy.rules, principal, subject, arguments) if policy.rules else Explanation(subject, (), (_FREE,))
        for subject in policy.subjects_of(tool)
    ]


def _name(tool: Tool) -> str:
    """The name that agents use."""
    name = tool.definition.get("name")
    return name if isinstance(name, str) else tool.name


def _principal(
    who: str, groups: Sequence[str], scopes: Sequence[str], issuer: str, claims: dict[str, Any], *, unverified: bool
) -> Principal:
    if unverified:
        if groups or scopes or issuer or claims or who.startswith(_GROUP):
            raise typer.BadParameter("an agent that proves nothing has no groups, scopes, issuer and claims")
        return Principal(who)
    if who.startswith(_GROUP):
        groups, who = [*groups, who.removeprefix(_GROUP)], ""
    return Principal.proven(who, issuer=issuer, groups=groups, scopes=scopes, claims=claims)


def _object(text: str, option: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"{option} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise typer.BadParameter(f"{option} is no JSON object")
    return found


def _rule_of(policy: Policy, explanations: Sequence[Explanation]) -> str:
    """The rule that decides, as text."""
    if not policy.rules:
        return "there are no rules"
    verdict = deciding(explanations)
    if verdict is None:
        return "depends on the arguments"
    return verdict.label


def _decided(policy: Policy, explanations: Sequence[Explanation]) -> tuple[str, str]:
    return _WORDS[decision(explanations)], _rule_of(policy, explanations)


def _shown(tool: Tool, explanations: Sequence[Explanation], *, steps: bool) -> dict[str, Any]:
    """One tool for `--json`; `steps`: with every rule that was tried."""
    verdict = deciding(explanations)
    shown: dict[str, Any] = {
        "name": _name(tool),
        "upstreams": list(tool.upstreams),
        "decision": decision(explanations),
        "rule": None if verdict is None or verdict.rule is None else verdict.rule.number,
    }
    if steps:
        shown["at"] = [
            {
                "upstream": one.subject.upstream,
                "tier": one.subject.tier,
                "decision": one.decision,
                "rules": [
                    {
                        "rule": step.rule.number,
                        "name": step.rule.config.name,
                        "then": step.rule.then,
                        "matches": _MATCHES[step.match],
                        "why": step.why,
                    }
                    for step in one.steps
                ],
            }
            for one in explanations
        ]
    return shown


def _explain(context: CommandContext[Settings], policy: Policy, tool: Tool, found: Sequence[Explanation]) -> None:
    context.put(f"{_name(tool)}: {_WORDS[decision(found)]} ({_rule_of(policy, found)})")
    for one in found:
        context.put()
        context.put(f"at upstream {one.subject.upstream}, tier {one.subject.tier}: {_WORDS[one.decision]}")
        rows = [
            (step.rule.label, step.rule.then, _MATCHES[step.match], step.why or _who_and_what(step.rule.config))
            for step in one.steps
        ]
        context.put_table(("rule", "then", "matches", "because of"), rows, whole={"then", "matches"})


def _who_and_what(rule: RuleConfig) -> str:
    """The keys of a rule that all match."""
    keys = [key for key in RuleConfig.model_fields if key not in {"name", *OUTCOME}]
    return ", ".join(key for key in keys if getattr(rule, key) is not None) or "it has no condition"


def _warn(context: CommandContext[Settings], policy: Policy, principal: Principal) -> None:
    if not context.enabled:
        context.say(f"warning: {context.to_enable}")
    elif not policy.rules:
        context.say("warning: without rules, everything is allowed")
    elif context.settings.mode == "report":
        context.say('note: mode is "report": nothing is refused and no person is asked')
    if principal.verified and not principal.issuer and any(rule.config.issuers for rule in policy.rules):
        context.say("note: some rules name issuers; to say who vouches for the principal, add --issuer")
