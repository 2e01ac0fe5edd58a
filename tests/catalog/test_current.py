"""The catalog in force, and its listeners across a replacement."""

from __future__ import annotations

from gateway_core.catalog.current import CurrentCatalog
from tests.catalog.world import World


def test_listeners_hear_what_differs_from_the_catalog_before() -> None:
    before, after = World(["a"]), World(["a"])
    before.offer("a", "x|1")
    after.offer("a", "x|1", "y|2")
    current, heard = CurrentCatalog(before.catalog), list[frozenset[str]]()
    current.listen(lambda kinds, _: heard.append(kinds))
    current.replace(after.catalog)
    assert heard == [frozenset({"tools"})]


def test_listeners_hear_nothing_of_an_equal_catalog_except_the_kinds_given() -> None:
    before, after = World(["a"]), World(["a"])
    for world in (before, after):
        world.offer("a", "x|1")
    current, heard = CurrentCatalog(before.catalog), list[frozenset[str]]()
    current.listen(lambda kinds, _: heard.append(kinds))
    current.replace(after.catalog)
    assert heard == []
    current.replace(before.catalog, frozenset({"prompts"}))
    assert heard == [frozenset({"prompts"})]


def test_all_listeners_hear_a_change_although_one_fails() -> None:
    world, heard = World(["a"]), list[frozenset[str]]()
    world.offer("a", "x|1")
    current = CurrentCatalog(world.catalog)
    current.listen(lambda *_: 1 / 0)  # type: ignore[arg-type,return-value]
    current.listen(lambda kinds, _: heard.append(kinds))
    world.offer("a", "x|1", "y|2")
    assert heard == [frozenset({"tools"})]


def test_after_a_replacement_only_the_new_catalog_is_heard() -> None:
    before, after = World(["a"]), World(["a"])
    for world in (before, after):
        world.offer("a", "x|1")
    current, heard = CurrentCatalog(before.catalog), list[frozenset[str]]()
    forget = current.listen(lambda kinds, _: heard.append(kinds))
    current.replace(after.catalog)
    before.offer("a", "z|3")
    assert heard == []
    after.offer("a", "z|3")
    assert heard == [frozenset({"tools"})]
    forget()
    after.offer("a", "w|4")
    assert len(heard) == 1
