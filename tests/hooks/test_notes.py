"""What plugins note about their settings: file and line, and plugins that fail."""

from collections.abc import Iterator
from typing import Any

import pytest

from gateway_core import Known, Note, hookimpl
from gateway_core.config import PluginEntry
from gateway_core.hooks import notes as module
from gateway_core.hooks.loader import load
from gateway_core.hooks.notes import groups_of, left_out, notes
from gateway_core.testing import configured

KNOWN = Known(frozenset({"github"}))


class Notes:
    """A plugin with notes."""

    def __init__(self, *given: Any) -> None:
        self.given = given

    @hookimpl
    def before_call(self) -> None:
        return None

    def notes(self, known: Known) -> Iterator[Note]:
        assert known is KNOWN
        yield from self.given


def noted(plugin: object, **entry: Any) -> list[str]:
    lines = {"": 10, "rules": 11, "rules[1]": 15, "rules[1].tools": 16}
    entries = [
        PluginEntry(name="other", enabled=False),
        PluginEntry(name="one", line=10, key_lines=lines, **entry),
    ]
    return [str(note) for note in notes([configured(plugin, name="one")], entries, "a.toml", KNOWN)]


def test_a_note_has_the_line_and_the_path_of_its_setting() -> None:
    given = Note("is wrong", "rules[1].tools[3]"), Note("never applies", "rules[0]"), Note("is odd")
    assert noted(Notes(*given)) == [
        "a.toml:16: mcp.proxy.plugins[1] (one): rules[1].tools[3]: is wrong",
        "a.toml:11: mcp.proxy.plugins[1] (one): rules[0]: never applies",
        "a.toml:10: mcp.proxy.plugins[1] (one): is odd",
    ]


def test_plugins_without_notes_have_none() -> None:
    class Silent:
        @hookimpl
        def before_call(self) -> None:
            return None

    class Other(Silent):
        notes = "a text"

    assert noted(Silent()) == noted(Other()) == noted(Notes()) == []


def test_a_value_from_elsewhere_is_not_shown() -> None:
    (note,) = noted(Notes(Note('"hunter22" matches no tool', "rules[1].tools[0]")), sources={"rules[1].tools[0]": "$X"})
    assert note.endswith("rules[1].tools[0]: the value from $X is probably a mistake")


def test_a_plugin_that_fails_says_so() -> None:
    class Fails(Notes):
        def notes(self, known: Known) -> Iterator[Note]:
            raise OSError("no such thing")

    assert noted(Fails())[0].endswith("its notes cannot be read: OSError: no such thing")
    assert noted(Notes("text"))[0].endswith("its notes cannot be read: one of them is a str")


def test_notes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_NOTES", 3)
    found = noted(Notes(*[Note("x" * 5000)] * 10))
    assert len(found) == 3
    assert all(len(note) < 1100 for note in found)


class Keys:
    """An authenticator that knows its groups."""

    known_groups: Any = ("dev",)

    @hookimpl
    def authenticate(self) -> None:
        return None


def test_groups_are_known_if_all_authenticators_know_theirs() -> None:
    class Others(Keys):
        @property
        def known_groups(self) -> frozenset[str]:
            return frozenset({"ops"})

    class One(Keys):
        known_groups = "admins"

    class Tokens:
        @hookimpl
        def authenticate(self) -> None:
            return None

    class Fails(Keys):
        @property
        def known_groups(self) -> frozenset[str]:
            raise OSError

    keys, others, tokens, fails, other = (
        configured(plugin, name=plugin.__name__) for plugin in (Keys, Others, Tokens, Fails, Notes)
    )
    assert groups_of([]) == groups_of([other]) == frozenset()
    assert groups_of([keys, other, others]) == {"dev", "ops"}
    assert groups_of([keys, configured(One, name="One")]) == {"dev", "admins"}, "a text is one group"
    assert groups_of([keys, tokens]) is None
    assert groups_of([fails]) is None


# Default plugins that a list leaves out


def missing(*names: str) -> str:
    """The note on a list of these plugins; those with a dash before their names are disabled."""
    entries = [
        PluginEntry(name=name.removeprefix("-"), enabled=name[0] != "-", line=line)
        for line, name in enumerate(names, 1)
    ]
    return "".join(left_out(load(entries), entries))


def test_the_default_plugins_that_a_list_leaves_out_are_noted() -> None:
    assert "leaves out routing_priority, conflict_autoprefix, security_ratelimit;" in missing("security_redact")
    assert "leaves out security_redact;" in missing("routing_roundrobin", "conflict_reject", "security_ratelimit")


def test_nothing_is_noted_for_a_list_with_all_of_them_or_what_takes_their_place() -> None:
    assert not missing("routing_roundrobin", "conflict_priority", "-security_ratelimit", "security_redact")
    assert not missing("-routing_priority", "-conflict_autoprefix", "-security_ratelimit", "-security_redact")
    assert not missing(), "an empty list is intended"
    defaults = [PluginEntry(name=name) for name in ("routing_priority", "security_redact")]
    assert left_out(load(defaults), defaults) == [], "the file has no list"
