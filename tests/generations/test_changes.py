"""What differs between two configurations, and that no key of the file is left out."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any, Literal, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from gateway_core.config import Config, PluginEntry, ProfileConfig, ProxyConfig, UpstreamConfig
from gateway_core.config.report import section_in
from gateway_core.config.sections import Section
from gateway_core.config.server_tls import ServerTlsConfig
from gateway_core.generations.changes import ELSEWHERE, LIVE, RESTART, Change, applicable, compare

TLS = ServerTlsConfig(cert="a.pem")
PROXY = ProxyConfig(tls=TLS)


def leaves(section: Section, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every key of the table and of those in it, without lists of tables."""
    for key in type(section).file_keys():
        value = getattr(section, key)
        if isinstance(value, Section):
            yield from leaves(value, (*prefix, key))
        elif (*prefix, key) not in {("upstreams",), ("profiles",), ("plugins",)}:
            yield (*prefix, key)


def another(annotation: Any, value: Any) -> Any:
    """Another value than `value` for a key with that annotation."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    options = [part for part in (annotation, *get_args(annotation)) if get_origin(part) is Literal]
    if options:
        return next(one for one in get_args(options[0]) if one != value)
    if isinstance(value, tuple):
        return (*value, SecretStr("x"))
    return 7 if int in get_args(annotation) else "another"


def changed(section: Section, path: tuple[str, ...]) -> Any:
    key, *rest = path
    value = getattr(section, key)
    new = changed(value, tuple(rest)) if rest else another(type(section).model_fields[key].annotation, value)
    return section.model_copy(update={key: new})


@pytest.mark.parametrize("path", list(leaves(PROXY)), ids=".".join)
def test_every_key_is_applied_or_named_as_one_that_needs_a_restart(path: tuple[str, ...]) -> None:
    """A new key of the file has to be put into one of the tables."""
    name = ".".join(path)
    after = changed(PROXY, path)
    found = compare(Config(None, PROXY), Config(None, after))
    applied = applicable(Config(None, PROXY), Config(None, after)).proxy
    if path[0] in ELSEWHERE:
        assert not found
        return
    assert [one.name for one in found] == [name]
    if name in RESTART:
        assert found[0].restart == RESTART[name]
        assert applied == PROXY
    else:
        assert path[0] in LIVE
        assert not found[0].restart
        assert applied == after


def test_the_tables_name_only_keys_that_exist() -> None:
    known = {".".join(path) for path in leaves(PROXY)} | {*ProxyConfig.file_keys()}
    assert known >= LIVE
    assert RESTART.keys() <= known
    assert ELSEWHERE.keys() <= known
    assert set(ProxyConfig.file_keys()) <= LIVE | ELSEWHERE.keys() | {key.partition(".")[0] for key in RESTART}


@pytest.mark.parametrize("key", UpstreamConfig.file_keys())
def test_every_key_of_an_upstream_is_compared(key: str) -> None:
    one = UpstreamConfig(name="a", transport="stdio", command="x")
    field = UpstreamConfig.model_fields[key]
    value = getattr(one, key)
    new = "another" if section_in(field.annotation) else another(field.annotation, value)
    before, after = (ProxyConfig(upstreams=(it,)) for it in (one, one.model_copy(update={key: new})))
    found = compare(Config(None, before), Config(None, after))
    if key == "name":
        assert [it.how for it in found] == ["removed", "added"]
    else:
        assert [it.how for it in found] == ["disabled" if key == "enabled" else "changed"]


def test_tls_that_comes_or_goes_needs_a_restart_and_another_certificate_does_not() -> None:
    with_tls, without = Config(None, PROXY), Config(None, ProxyConfig())
    moved = Config(None, ProxyConfig(tls=ServerTlsConfig(cert="b.pem")))
    assert [it.restart for it in compare(without, with_tls)] == [RESTART["tls"]]
    assert applicable(without, with_tls).proxy.tls is None
    assert [it.restart for it in compare(with_tls, without)] == [RESTART["tls"]]
    assert [str(it) for it in compare(with_tls, moved)] == ["tls.cert: changed"]


def entries(*names: str, **settings: Any) -> tuple[PluginEntry, ...]:
    return tuple(PluginEntry(name=name, settings=settings) for name in names)


def test_plugins_are_compared_by_name_settings_and_order() -> None:
    before = ProxyConfig(plugins=entries("a", "b", "c", key=1))
    after = ProxyConfig(plugins=(*entries("c", key=1), *entries("a", key=2), *entries("d")))
    assert [str(it) for it in compare(Config(None, before), Config(None, after))] == [
        "plugin b: removed",
        "plugin a: changed (key)",
        "plugin d: added",
        "plugin a: moved",
    ]


@given(st.permutations("abcdefg"))
def test_as_few_names_as_possible_count_as_moved(order: list[str]) -> None:
    before = Config(None, ProxyConfig(plugins=entries(*sorted(order))))
    after = Config(None, ProxyConfig(plugins=entries(*order)))
    moved = [it.name for it in compare(before, after)]
    stayed = [name for name in order if name not in moved]
    assert stayed == sorted(stayed)
    longest = next(
        size for size in range(7, 0, -1) if any(list(run) == sorted(run) for run in combinations(order, size))
    )
    assert len(stayed) == longest


def profiles(*tables: dict[str, Any]) -> Config:
    return Config(None, ProxyConfig(profiles=tuple(ProfileConfig.model_validate(table) for table in tables)))


def test_profiles_are_compared_by_name_and_keys() -> None:
    small: dict[str, Any] = {"name": "small", "tools": ["a*"], "overrides": [{"tool": "a", "name": "x"}]}
    before = profiles(small, {"name": "gone"}, {"name": "last"})
    override = {"tool": "a", "name": "y"}
    after = profiles(
        {"name": "last"}, {**small, "tools": ["b*"], "default": True, "overrides": [override, {"tool": "b"}]}
    )
    assert [str(it) for it in compare(before, after)] == [
        "profile gone: removed",
        "profile small: changed (tools; default false -> true; overrides.a.name; overrides.b added)",
        "profile small: moved",
    ]


@pytest.mark.parametrize("key", [key for key in ProfileConfig.file_keys() if key != "name"])
def test_every_key_of_a_profile_is_compared(key: str) -> None:
    one = ProfileConfig(name="a")
    value = getattr(one, key)
    new = one.model_copy(update={key: not value if isinstance(value, bool) else (*(value or ()), "another")})
    (found,) = compare(*(Config(None, ProxyConfig(profiles=(it,))) for it in (one, new)))
    assert (found.kind, found.name, found.how) == ("profile", "a", "changed")
    assert found.details[0].startswith(key)


def rules(*tables: dict[str, Any], **more: Any) -> Config:
    return Config(None, ProxyConfig(plugins=entries("security_policy", rules=list(tables), **more)))


@pytest.mark.parametrize(
    ("before", "after", "details"),
    [
        ([{"name": "night", "then": "deny"}], [{"name": "night", "then": "ask"}], "rules.night.then"),
        ([{"name": "a"}], [{"name": "b"}, {"name": "a"}], "rules.b added"),
        ([{"name": "a"}, {"name": "b"}], [{"name": "b"}, {"name": "a"}], "the order of rules"),
        ([{"then": "deny"}], [{"then": "deny"}, {"then": "ask"}], "rules[1] added"),
        ([{"name": "a", "when": {"x": "hush"}}], [{"name": "a", "when": {"x": "hush-2"}}], "rules.a.when.x"),
        ([{"name": "a", "tools": ["x"]}], [{"name": "a", "tools": ["y"]}], "rules.a.tools"),
        ([{"name": "n" * 200, "then": "deny"}], [{"name": "n" * 200, "then": "ask"}], "rules[0].then"),
        ([{"name": "a"}], [], "rules"),
    ],
)
def test_a_changed_plugin_names_the_rule_and_its_key(before: Any, after: Any, details: str) -> None:
    assert [str(it) for it in compare(rules(*before), rules(*after))] == [
        f"plugin security_policy: changed ({details})"
    ]


def test_a_change_names_a_bounded_number_of_keys() -> None:
    many = [{f"key{number}": value for number in range(30)} for value in range(2)]
    (found,) = compare(rules(**many[0]), rules(**many[1]))
    assert len(found.details) == 21
    assert found.details[-1] == "10 more"


def test_no_value_that_may_be_secret_is_shown() -> None:
    one = UpstreamConfig(name="a", transport="http", url="https://a/", headers={"Authorization": "Bearer hush-1"})
    two = one.model_copy(update={"headers": {"Authorization": "Bearer hush-2"}, "url": "https://b/?key=hush-3"})
    before = ProxyConfig(upstreams=(one,), state_keys=(SecretStr("hush-4" * 6),), plugins=entries("p", key="hush-5"))
    after = ProxyConfig(upstreams=(two,), state_keys=(SecretStr("hush-6" * 6),), plugins=entries("p", key="hush-7"))
    found = compare(Config(None, before), Config(None, after))
    assert [str(it) for it in found] == [
        "state_keys: changed",
        "upstream a: changed (url; headers)",
        "plugin p: changed (key)",
    ]
    assert "hush" not in str([it.as_json() for it in found])


def test_a_change_reads_as_a_sentence() -> None:
    made = Change("setting", "port", "changed", ("3000 -> 4000",), "agents are connected to this address")
    assert str(made) == ("port: changed (3000 -> 4000), which needs a restart: agents are connected to this address")
