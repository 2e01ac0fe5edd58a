"""What differs between two configurations, and that no key of the file is left out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import SecretStr

from gateway_core.config import Config, PluginEntry, ProxyConfig, UpstreamConfig
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
        elif (*prefix, key) not in {("upstreams",), ("plugins",)}:
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
