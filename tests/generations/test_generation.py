"""What a generation takes over from the one before it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from gateway_core.catalog.memory import Memory
from gateway_core.config import Config, ProxyConfig, UpstreamConfig
from gateway_core.generations.generation import Common, Generation, generation
from gateway_core.hooks import Chain
from gateway_core.limits.budget import MemoryBudget
from gateway_core.upstream.lists.fetched_lists import FetchedLists
from gateway_core.upstream.pool import UpstreamPool
from tests.catalog.world import item


async def nothing_to_wait_for() -> bool:
    return False


COMMON = Common(MemoryBudget(), nothing_to_wait_for, bytes)


def config_of(*names: str, **settings: Any) -> Config:
    upstreams = tuple(UpstreamConfig(name=name, transport="stdio", command="x") for name in names)
    return Config(None, ProxyConfig(upstreams=upstreams, **settings))


def first(config: Config, pool: UpstreamPool, path: Path | None = None) -> Generation:
    memory = Memory(config.proxy, path)
    return generation(config, Chain([]), pool.upstreams, COMMON, memory=memory)


def test_a_generation_keeps_the_seal_unless_the_keys_change() -> None:
    config = config_of("a", state_keys=(SecretStr("k" * 32),))
    pool = UpstreamPool(config.proxy)
    one = first(config, pool)
    two = generation(config, Chain([]), pool.upstreams, COMMON, before=one)
    other = config_of("a", state_keys=(SecretStr("l" * 32),))
    three = generation(other, Chain([]), pool.upstreams, COMMON, before=two)
    assert [it.number for it in (one, two, three)] == [1, 2, 3]
    assert one.seal is two.seal is not three.seal
    assert one.input_required.parking is three.input_required.parking


def test_a_name_keeps_its_holder_when_the_configuration_changes() -> None:
    """The upstream above the holder in the file came later."""
    config = config_of("b")
    pool = UpstreamPool(config.proxy)
    one = first(config, pool)
    pool.upstreams[0].published.fetched = _lists("shared")
    one.catalog.rebuild()
    other = config_of("a", "b")
    upstreams = pool.for_config(other.proxy)
    assert upstreams[1] is pool.upstreams[0]
    upstreams[0].published.fetched = _lists("shared")
    two = generation(other, Chain([]), upstreams, COMMON, before=one)
    assert two.catalog.snapshot.tools["shared"].upstreams[0].name == "b"


def test_an_upstream_that_changed_or_moved_to_another_limit_is_a_new_object() -> None:
    config = config_of("a", "b")
    pool = UpstreamPool(config.proxy)
    changed = config.proxy.upstreams[0].model_copy(update={"args": ("--more",)})
    proxy = config.proxy.model_copy(update={"upstreams": (config.proxy.upstreams[1], changed)})
    found = pool.for_config(proxy)
    assert found[0] is pool.upstreams[1]
    assert found[1] is not pool.upstreams[0]
    limits = proxy.limits.model_copy(update={"response_body": 1})
    assert pool.for_config(proxy.model_copy(update={"limits": limits}))[0] is not pool.upstreams[1]


def test_upstreams_know_their_place_in_the_file_in_force() -> None:
    config = config_of("a")
    pool = UpstreamPool(config.proxy)
    proxy = config_of("new", "a").proxy
    pool.use(pool.for_config(proxy), proxy)
    assert [(it.name, it.view.order) for it in pool.upstreams] == [("new", 0), ("a", 1)]


@pytest.mark.parametrize("which", ["replaced", "new"])
def test_a_failure_to_store_lists_leaves_no_replaced_upstream_in_the_pool(
    which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = UpstreamPool(config_of("a").proxy)
    proxy = config_of("b").proxy
    upstreams = pool.for_config(proxy)

    def broken(_: bool) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr((pool.upstreams if which == "replaced" else upstreams)[0].published, "keep", broken)
    with pytest.raises(ValueError, match="a bug"):
        pool.use(upstreams, proxy)
    assert pool.upstreams == upstreams
    assert pool.drain("b", drained=True)


def _lists(*names: str) -> FetchedLists:
    return FetchedLists({"tool": tuple(item(f"{name}|1", "tool") for name in names)})
