"""Errors in the settings of plugins: in words, at the right line, without values."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import BeforeValidator, Field, SecretStr, field_validator

from gateway_core import Globs, PluginConfig, Remember
from gateway_core.config import PluginEntry
from gateway_core.errors import PluginError
from gateway_core.hooks.settings import settings_of


class Rule(PluginConfig):
    then: Literal["allow", "deny"] = "allow"
    remember: Remember | None = Field(default=None, description="how long")
    tools: Globs | None = None
    tiers: Annotated[tuple[Literal["read", "write"], ...], Field(min_length=1)] | None = None
    reason: Annotated[str, Field(min_length=1, max_length=5)] | None = None

    @field_validator("reason")
    @classmethod
    def _is_no_word(cls, reason: str | None) -> str | None:
        if reason == "word":
            raise ValueError(f"must not be {reason}")
        return reason


class Settings(PluginConfig):
    rules: Annotated[tuple[Rule, ...], Field(max_length=2)] = ()
    names: dict[Annotated[str, Field(min_length=2)], tuple[int, ...]] = Field(default_factory=dict)
    number: int = Field(default=1, ge=1, le=5, description="a small number")
    mixed: int | str | list[int] = 1
    table: Rule | int | None = None
    inner: Rule = Rule()
    secret: SecretStr = SecretStr("")
    part: float = 1
    switch: bool = False
    doubled: Annotated[int, BeforeValidator(lambda given: 2 * len(given) if isinstance(given, str) else given)] = 1
    must: int = Field(description="how many")


def wrong(sources: dict[str, str] | None = None, lines: dict[str, int] | None = None, **settings: Any) -> list[str]:
    entry = PluginEntry(
        name="one", settings={"must": 1, **settings}, line=3, key_lines=lines or {}, sources=sources or {}
    )
    with pytest.raises(PluginError) as caught:
        settings_of(Settings, entry, 0, "a.toml")
    return [str(problem).removeprefix("a.toml:3: mcp.proxy.plugins[0] (one): ") for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"must": "x"}, "must: must be a whole number, but is text (how many)"),
        ({"must": True}, "must: must be a whole number, but is a boolean (how many)"),
        ({"must": "5"}, "must: must be a whole number, but is text (how many)"),
        ({"part": True}, "part: must be a number, but is a boolean"),
        ({"switch": 1}, "switch: must be true or false, but is a whole number"),
        ({"switch": "yes"}, "switch: must be true or false, but is text"),
        ({"names": {"ab": [1, True]}}, "names.ab[1]: must be a whole number, but is a boolean"),
        (
            {"rules": [{"remember": True}]},
            'rules[0].remember: must be "no", "session" or a whole number, but is a bool',
        ),
        ({"mixed": False}, "mixed: must be a whole number, text in quotes or a list, but is a boolean"),
        ({"number": 9}, "number: must be from 1 to 5 (a small number)"),
        ({"secret": 5}, "secret: must be text in quotes, but is a whole number"),
        ({"mixed": {}}, "mixed: must be a whole number, text in quotes or a list, but is a table"),
        ({"rules": 5}, "rules: must be a list, but is a whole number"),
        ({"rules": [5]}, "rules[0]: must be a table, but is a whole number"),
        ({"rules": [{}, {}, {}]}, "rules: must have at most 2 elements"),
        ({"rules": [{"then": "alow"}]}, 'rules[0].then: must be one of "allow", "deny"; did you mean "allow"?'),
        ({"rules": [{"then": 5}]}, 'rules[0].then: must be one of "allow", "deny"'),
        ({"rules": [{"remember": "x"}]}, 'rules[0].remember: must be "no", "session" or a whole number, but is text'),
        ({"rules": [{"remember": 0}]}, 'rules[0].remember: must be "no", "session" or a number greater than 0'),
        ({"rules": [{"tools": "x"}]}, "rules[0].tools: must be a list, but is text"),
        ({"rules": [{"tools": ["x", 5]}]}, "rules[0].tools[1]: must be text in quotes, but is a whole number"),
        ({"rules": [{"tools": [""]}]}, "rules[0].tools: a glob must have 1 to 1024 characters"),
        ({"rules": [{"tiers": []}]}, "rules[0].tiers: must have at least 1 element"),
        ({"rules": [{"tiers": ["rea"]}]}, 'rules[0].tiers[0]: must be one of "read", "write"; did you mean "read"?'),
        ({"rules": [{"reason": ""}]}, "rules[0].reason: must not be empty"),
        ({"rules": [{"reason": "x" * 6}]}, "rules[0].reason: must have at most 5 characters"),
        ({"rules": [{"reason": "word"}]}, "rules[0].reason: must not be word"),
        (
            {"rules": [{"resaon": "x"}]},
            "rules[0].resaon: unknown setting; did you mean reason? it has then, remember, tools, tiers, reason",
        ),
        ({"inner": {"x": 1}}, "inner.x: unknown setting; it has then, remember, tools, tiers, reason"),
        ({"names": {"ab": ["x"]}}, "names.ab[0]: must be a whole number, but is text"),
        ({"names": {"a": []}}, "names.a: its name must have at least 2 characters"),
        ({"table": {"reason": ""}}, "table.reason: must not be empty"),
    ],
)
def test_what_is_wrong_is_said_in_words(settings: dict[str, Any], message: str) -> None:
    found = wrong(**settings)[0]
    assert found == message or (found.startswith(message) and found.endswith(" (how long)"))


def test_a_name_and_its_value_are_both_reported() -> None:
    assert wrong(names={"a": ["x"]}) == [
        "names.a: its name must have at least 2 characters",
        "names.a[0]: must be a whole number, but is text",
    ]


def test_a_missing_setting() -> None:
    with pytest.raises(PluginError, match=r"must: is required \(how many\); add it"):
        settings_of(Settings, PluginEntry(name="one"), 0, "a.toml")


def test_each_error_has_the_line_of_its_setting_or_of_the_table_around_it() -> None:
    found = wrong(
        rules=[{"then": "x"}, {"remember": "x", "other": 1}],
        lines={"rules": 10, "rules[0]": 10, "rules[0].then": 11, "rules[1]": 13, "rules[1].remember": 14},
    )
    assert [line.split(" ")[0] for line in found] == ["a.toml:11:", "a.toml:14:", "a.toml:13:"]


@pytest.mark.parametrize(
    ("settings", "path", "message"),
    [
        ({"rules": [{"then": "alow"}]}, "rules[0].then", 'must be one of "allow", "deny"'),
        ({"rules": [{"remember": "x"}]}, "rules[0].remember", 'must be "no", "session" or a whole number (how long)'),
        ({"rules": [{"reason": "word"}]}, "rules[0].reason", "is not valid"),
        ({"must": "x"}, "must", "must be a whole number (how many)"),
    ],
)
def test_a_value_from_elsewhere_is_named_by_its_source_alone(settings: dict[str, Any], path: str, message: str) -> None:
    assert wrong({path: "the variable X"}, **settings) == [f"{path}: {message} (the value comes from the variable X)"]


def test_texts_from_elsewhere_become_the_numbers_and_booleans_that_the_model_wants() -> None:
    settings = {
        "must": "5",
        "part": "0.5",
        "switch": "yes",
        "names": {"ab": [1, "2"]},
        "rules": [{"remember": "60"}, {"remember": "session"}],
    }
    paths = ("must", "part", "switch", "names.ab[1]", "rules[0].remember", "rules[1].remember")
    entry = PluginEntry(name="one", settings=settings, sources=dict.fromkeys(paths, "the variable X"))
    found = settings_of(Settings, entry, 0, "a.toml")
    assert (found.must, found.part, found.switch, found.names) == (5, 0.5, True, {"ab": (1, 2)})
    assert [rule.remember for rule in found.rules] == [60, "session"]
    assert settings["must"] == "5", "the entry stays as it is"


def test_a_text_from_elsewhere_does_not_excuse_one_that_stands_in_the_file() -> None:
    assert wrong({"must": "the variable X"}, must="5", part="0.5") == ["part: must be a number, but is text"]


def test_a_validator_of_the_plugin_may_take_what_it_likes() -> None:
    entry = PluginEntry(name="one", settings={"must": 1, "doubled": "abc", "part": 2})
    found = settings_of(Settings, entry, 0, "a.toml")
    assert (found.doubled, found.part) == (6, 2.0)
