"""What lists and results show: lists of every kind, links, and for whom they may be cached."""

import json

import pytest
from gateway_security_policy import filters
from gateway_security_policy.plugin import LARGE, SecurityPolicy
from msgspec.structs import replace

from gateway_core import CallResult, Principal, Published
from gateway_core.testing import FakeUpstream, configured, make_call, make_result, run_call, run_hook

ALICE = Principal.proven("alice", issuer="i", groups=["dev"])
BOB = Principal.proven("bob", issuer="i")
LISTS = {
    "tools/list": ("tools", "name"),
    "prompts/list": ("prompts", "name"),
    "resources/list": ("resources", "uri"),
    "resources/templates/list": ("resourceTemplates", "uriTemplate"),
}


def policy(*rules, **settings):
    return configured(SecurityPolicy, rules=rules, **settings)


async def shown(plugin, method, entries, *, principal=ALICE, owners=None, **members):
    """The names in a filtered page. `owners`: name -> upstreams, where they are not `("a",)`."""
    key, name = LISTS[method]
    listed = [
        Published(entry[name], entry.get("_original", entry[name]), (owners or {}).get(entry[name], ("a",)))
        for entry in entries
    ]
    page = CallResult.of({key: entries, **members})
    call = make_call("", method=method, principal=principal, listed=listed)
    result = await run_call(call, FakeUpstream(page), plugin)
    assert result.error is None, result.error
    return [entry[name] for entry in result.content[key]]


@pytest.mark.parametrize(("method", "name"), [(method, name) for method, (_, name) in LISTS.items()])
async def test_every_list_shows_what_may_be_used(method, name):
    plugin = policy({"upstreams": ["a"], "then": "allow"})
    entries = [{name: f"x://{n}"} for n in range(4)]
    owners = {"x://1": ("b",), "x://2": ("a", "b")}
    assert await shown(plugin, method, entries, owners=owners) == ["x://0", "x://3"]


async def test_names_decide_about_lists_of_their_kind_only():
    plugin = policy({"tools": ["ok*"], "then": "allow"}, {"resources": ["file:///pub/*"], "then": "allow"})
    assert await shown(plugin, "tools/list", [{"name": "ok1"}, {"name": "no"}]) == ["ok1"]
    assert await shown(plugin, "prompts/list", [{"name": "ok1"}]) == []
    resources = [{"uri": "file:///pub/a"}, {"uri": "file:///etc/a"}]
    assert await shown(plugin, "resources/list", resources) == ["file:///pub/a"]


async def test_tiers_decide_by_the_annotations_of_each_tool():
    plugin = policy({"tiers": ["read"], "then": "allow"})
    entries = [{"name": "r", "annotations": {"readOnlyHint": True}}, {"name": "w", "annotations": {}}, {"name": "n"}]
    assert await shown(plugin, "tools/list", entries) == ["r"]


async def test_a_tool_whose_arguments_decide_is_shown_if_any_call_may_be_allowed():
    entries = [{"name": "t"}]
    when = {"when": "arguments.n > 1"}
    assert await shown(policy({**when, "then": "allow"}), "tools/list", entries) == ["t"]
    assert await shown(policy({**when, "then": "deny"}, {"then": "allow"}), "tools/list", entries) == ["t"]
    assert await shown(policy({**when, "then": "deny"}), "tools/list", entries) == []
    assert await shown(policy({"then": "deny"}, {**when, "then": "allow"}), "tools/list", entries) == []


@pytest.mark.parametrize(
    ("rules", "is_shown"),
    [
        ([{"resources": ["file:///docs/*"], "then": "allow"}], True),
        ([{"resources": ["file:///docs/a"], "then": "allow"}], False),
        ([{"resources": ["file:///docs/a.md"], "then": "allow"}], True),
        ([{"resources": ["file:///d*"], "then": "allow"}], True),
        ([{"resources": ["file:///docs/{name}.md"], "then": "allow"}], True),
        ([{"resources": ["*.md"], "then": "allow"}], True),
        ([{"resources": ["*.txt"], "then": "allow"}], False),
        ([{"resources": ["file:///etc/*"], "then": "allow"}], False),
        ([{"resources": ["file:///docs/*"], "then": "deny"}, {"then": "allow"}], False),
        ([{"resources": ["file:///docs/secret*"], "then": "deny"}, {"then": "allow"}], True),
        ([{"resources": ["*"], "then": "deny"}, {"then": "allow"}], False),
    ],
)
async def test_a_template_is_shown_if_any_of_its_uris_may_be_read(rules, is_shown):
    template = "file:///docs/{name}.md"
    assert bool(await shown(policy(*rules), "resources/templates/list", [{"uriTemplate": template}])) is is_shown
    completes = replace(make_call(template, method="completion/complete", principal=ALICE), of_prompt=False)
    assert ((await run_call(completes, FakeUpstream(), policy(*rules))).error is None) is is_shown


async def test_each_principal_has_its_own_page():
    plugin = policy({"groups": ["dev"], "then": "allow"}, {"tools": ["public"], "then": "allow"})
    entries = [{"name": "public"}, {"name": "internal"}]
    for _ in range(2):
        assert await shown(plugin, "tools/list", entries, principal=ALICE) == ["public", "internal"]
        assert await shown(plugin, "tools/list", entries, principal=BOB) == ["public"]


async def test_a_name_that_the_list_of_the_gateway_lacks_is_not_shown():
    page = CallResult.of({"tools": [{"name": "smuggled"}, {"name": 7}, {}]})
    call = make_call("", method="tools/list", principal=ALICE)
    assert (await run_call(call, FakeUpstream(page), policy({"then": "allow"}))).content["tools"] == []


def test_a_filtered_page_keeps_its_other_members_and_is_private():
    page = CallResult.of({"tools": [{"name": "a", "x": 1.50}], "nextCursor": "c", "ttlMs": 5, "cacheScope": "public"})
    call = make_call("", method="tools/list", principal=ALICE, listed=[Published("a", "a", ("u",))])
    found = run_hook(policy({"then": "allow"}).instance, "after_call", call, page)
    expected = {"tools": [{"name": "a", "x": 1.5}], "nextCursor": "c", "ttlMs": 5, "cacheScope": "private"}
    assert json.loads(found.raw) == expected


def test_a_page_is_filtered_once_for_all_whom_the_same_rules_concern(monkeypatch):
    plugin = policy({"verified": True, "then": "allow"}).instance
    listed = make_call("", method="tools/list", listed=[Published("a", "a", ("u",))]).listed
    tried = []
    monkeypatch.setattr(plugin.policy, "listed", lambda *arguments: tried.append(arguments) or True)
    page = CallResult.of({"tools": [{"name": "a"}], "cacheScope": "public"})
    for principal in (ALICE, BOB, ALICE):
        call = replace(make_call("", method="tools/list", principal=principal), listed=listed)
        assert run_hook(plugin, "after_call", call, page) is not None
    assert len(tried) == 1
    other = replace(make_call("", method="tools/list", principal=ALICE), listed=dict(listed))
    run_hook(plugin, "after_call", other, page)
    assert len(tried) == 2, "the same bytes, and perhaps other upstreams"


def test_the_filtered_pages_in_memory_are_bounded(monkeypatch):
    monkeypatch.setattr(filters, "MAX_PAGES", 10)
    monkeypatch.setattr(filters, "MAX_BYTES", 2000)
    pages, view = filters.Pages(), object()
    for n in range(100):
        pages.put(view, "tools/list", b"%04d" % n, None, b"x" * 100)
        pages.put(view, "tools/list", b"%04d" % n, None, b"x" * 100)
    assert len(pages._pages) == 10
    pages.put(view, "tools/list", b"large", None, b"x" * 1900)
    assert len(pages._pages) == 1
    assert pages._bytes == 1905
    pages.put(view, "tools/list", b"larger", None, b"x" * 5000)
    assert (len(pages._pages), pages._bytes) == (0, 0)


LINKS = {
    "tools/call": lambda *blocks: {"content": list(blocks)},
    "tasks/get": lambda *blocks: {"taskId": "t", "status": "completed", "result": {"content": list(blocks)}},
    "prompts/get": lambda *blocks: {"messages": [{"role": "user", "content": block} for block in blocks]},
}


def link(uri):
    return {"type": "resource_link", "uri": uri, "name": "n"}


@pytest.mark.parametrize("method", sorted(LINKS))
@pytest.mark.parametrize("size", [1, LARGE])
def test_links_to_what_may_not_be_read_are_withheld(method, size):
    plugin = policy({"resources": ["file:///etc/*"], "then": "deny"}, {"then": "allow"}).instance
    text = {"type": "text", "text": '"resource_link"' + "x" * size}
    content = LINKS[method](link("file:///etc/passwd"), text, link("file:///srv/a"), {"type": "resource_link"})
    result = replace(make_result(upstream="a"), raw=json.dumps(content).encode(), _decoded=[])
    found = run_hook(plugin, "after_call", make_call("t", method=method, principal=ALICE), result)
    withheld = {"type": "text", "text": "[A link to a resource is withheld: this agent may not read it.]"}
    assert json.loads(found.raw) == LINKS[method](withheld, text, link("file:///srv/a"), withheld)
    assert (found.outcome, found.upstream, found.era) == (result.outcome, "a", result.era)


@pytest.mark.parametrize(
    "content",
    [
        {"content": [link("file:///srv/a"), "text", None, 5]},
        {"content": {"type": "resource_link"}},
        {"messages": [link("x")], "other": '"resource_link"'},
        {"content": [{"type": ["resource_link"], "uri": "x"}]},
    ],
)
def test_results_without_links_to_withhold_keep_their_bytes(content):
    plugin = policy({"resources": ["file:///srv/*"], "then": "allow"}).instance
    result = replace(make_result(upstream="a"), raw=json.dumps(content).encode(), _decoded=[])
    assert run_hook(plugin, "after_call", make_call("t", principal=ALICE), result) is None


def test_what_was_read_may_be_cached_by_its_reader_only():
    plugin = policy({"then": "allow"}).instance
    call = make_call("file:///x", method="resources/read", principal=ALICE)
    content = {"contents": [], "ttlMs": 9, "cacheScope": "public"}
    result = replace(make_result(), raw=json.dumps(content).encode(), _decoded=[])
    found = run_hook(plugin, "after_call", call, result)
    assert json.loads(found.raw) == {**content, "cacheScope": "private"}
    assert run_hook(plugin, "after_call", call, make_result()) is None


async def test_a_malformed_page_is_withheld():
    call = make_call("", method="tools/list", principal=ALICE)
    refused = await run_call(call, FakeUpstream(CallResult.of({"tools": 5})), policy({"then": "allow"}))
    assert refused.error.code == -31004


async def test_report_hides_nothing():
    plugin = policy({"then": "deny"}, mode="report")
    assert await shown(plugin, "tools/list", [{"name": "a"}]) == ["a"]
    result = replace(make_result(upstream="a"), raw=json.dumps({"content": [link("x://y")]}).encode(), _decoded=[])
    assert run_hook(plugin.instance, "after_call", make_call(principal=ALICE), result) is None


def test_a_link_whose_type_is_written_with_escapes_is_withheld():
    raw = b'{"content":[{"type":"resource\\u005flink","name":"n","uri":"file:///etc/passwd"}]}'
    plugin = policy({"resources": ["file:///srv/*"], "then": "allow"}, {"tools": ["*"], "then": "allow"})
    found = run_hook(
        plugin.instance, "after_call", make_call("t"), CallResult(raw=raw, upstream="upstream", era="modern")
    )
    assert found is not None
    assert b"passwd" not in found.raw
