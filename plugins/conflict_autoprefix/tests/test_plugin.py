"""`conflict_autoprefix`: the first keeps the bare name, later ones get their upstream's name."""

import pytest
from gateway_conflict_autoprefix.plugin import AutoPrefix
from pydantic import ValidationError

from gateway_core.testing import configured, make_conflict, make_upstream, run_hook

A, B, C = (make_upstream(name, order=order) for order, name in enumerate("abc"))


def names(conflict, **settings):
    published = run_hook(configured(AutoPrefix, **settings).instance, "resolve_conflict", conflict)
    return {name: claim.owner.name for name, claim in published.items()}


def test_the_first_keeps_the_name_and_later_ones_are_prefixed():
    assert names(make_conflict("search", A, B, C)) == {"search": "a", "b__search": "b", "c__search": "c"}


def test_what_does_not_clash_keeps_its_name():
    assert names(make_conflict("search", B)) == {"search": "b"}


def test_replicas_are_one_claim_with_their_first_upstreams_name():
    assert names(make_conflict("search", A, [B, C])) == {"search": "a", "b__search": "b"}


def test_the_separator_is_the_configured_one():
    assert names(make_conflict("search", A, B, separator="-")) == {"search": "a", "b-search": "b"}


@pytest.mark.parametrize("kind", ["tool", "prompt"])
def test_always_prefixes_every_tool_and_prompt(kind):
    assert names(make_conflict("search", A, B, kind=kind), prefix="always") == {"a__search": "a", "b__search": "b"}
    assert names(make_conflict("search", B, kind=kind), prefix="always") == {"b__search": "b"}


@pytest.mark.parametrize("prefix", ["conflict", "always"])
def test_a_uri_stays_one_and_changes_only_where_it_clashes(prefix):
    assert names(make_conflict("file:///x", A, kind="resource"), prefix=prefix) == {"file:///x": "a"}
    assert names(make_conflict("file:///x", A, B, kind="resource"), prefix=prefix) == {
        "file:///x": "a",
        "file:///x#upstream=b": "b",
    }


def test_another_prefix_is_refused():
    with pytest.raises(ValidationError, match="'conflict' or 'always'"):
        configured(AutoPrefix, prefix="sometimes")
