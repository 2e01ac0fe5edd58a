"""`Known`: which globs of a plugin's settings match nothing."""

from gateway_core import Known, Note, Tool
from gateway_core.testing import make_call


def tool(name: str, upstream: str = "github") -> Tool:
    found = make_call(name, upstreams=(upstream,)).tool
    assert found is not None
    return found


def test_a_glob_that_matches_no_upstream_is_noted_with_its_place_and_a_proposal() -> None:
    known = Known(frozenset({"github", "files"}))
    assert list(known.about_upstreams(["git*", "githb", "files", "*", "x?"], "rules[1].upstreams")) == [
        Note('"githb" matches no upstream of this file; did you mean "github"?', "rules[1].upstreams[1]"),
        Note('"x?" matches no upstream of this file', "rules[1].upstreams[4]"),
    ]


def test_without_upstreams_a_glob_for_all_of_them_is_no_mistake() -> None:
    assert not list(Known(frozenset()).about_upstreams(["*", "**"], "upstreams"))


def test_tools_are_compared_only_if_they_are_known() -> None:
    assert not list(Known(frozenset()).about_tools(["nothing"], "tools"))
    known = Known(frozenset(), [tool("search"), tool("push")])
    assert list(known.about_tools(["sear*", "serch", "*"], "tools")) == [
        Note('"serch" matches no published tool; did you mean "search"?', "tools[1]")
    ]


def test_a_plugin_says_which_names_of_a_tool_it_compares() -> None:
    known = Known(frozenset(), [tool("search")])
    assert not list(known.about_tools(["github:*"], "tools", lambda one: [f"{one.upstreams[0]}:{one.name}"]))


def test_groups_are_compared_only_if_they_are_known() -> None:
    assert not list(Known(frozenset()).about_groups(["dev"], "groups"))
    known = Known(frozenset(), groups=frozenset({"dev", "ops"}))
    assert list(known.about_groups(["ops", "dve"], "groups")) == [
        Note('no agent is in the group "dve"; did you mean "dev"?', "groups[1]")
    ]


def test_profiles_are_compared_only_if_the_file_has_some() -> None:
    assert not list(Known(frozenset()).about_profiles(["support"], "profiles"))
    known = Known(frozenset(), profiles=frozenset({"support"}))
    assert list(known.about_profiles(["support", "suport"], "profiles")) == [
        Note('no profile of this file has the name "suport"; did you mean "support"?', "profiles[1]")
    ]


def test_globs_of_calls_are_compared_with_names_of_tools_and_of_upstreams() -> None:
    known = Known(frozenset({"github"}), [tool("search")])
    assert [note.setting for note in known.about_calls(["search", "github:search", "x", "gitlab:*"], "always")] == [
        "always[3]",
        "always[2]",
        "always[3]",
    ]
