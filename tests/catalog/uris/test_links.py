"""URIs inside of results and definitions, as agents have to know them."""

import json
from typing import Any

import pytest

from gateway_core.api.conflict import marked_uri, unmarked_uri
from gateway_core.catalog.uris.links import published_definition, published_links


def published(uri: str) -> str:
    return uri + "#upstream=b" if uri.startswith(("file:", "ui:")) else uri


def edited(method: str, result: Any) -> Any:
    return json.loads(published_links(method, json.dumps(result).encode(), published))


def test_links_of_every_kind_are_edited_and_nothing_else_is() -> None:
    link = {"type": "resource_link", "uri": "file:///x", "name": "file:///x"}
    embedded = {"type": "resource", "resource": {"uri": "file:///x", "text": "file:///x"}, "uri": "file:///x"}
    text = {"type": "text", "text": "file:///x", "uri": "file:///x"}
    result = {"content": [link, embedded, text], "structuredContent": {"uri": "file:///x"}, "uri": "file:///x"}
    assert edited("tools/call", result) == {
        **result,
        "content": [
            {**link, "uri": "file:///x#upstream=b"},
            {**embedded, "resource": {**embedded["resource"], "uri": "file:///x#upstream=b"}},  # type: ignore[dict-item]
            text,
        ],
    }
    messages = {"messages": [{"role": "user", "content": link}, {"role": "user", "content": text}]}
    assert [message["content"] for message in edited("prompts/get", messages)["messages"]] == [
        {**link, "uri": "file:///x#upstream=b"},
        text,
    ]
    read = edited("resources/read", {"contents": [{"uri": "file:///x", "blob": ""}, {"uri": "other:x"}]})
    assert [contents["uri"] for contents in read["contents"]] == ["file:///x#upstream=b", "other:x"]
    meta = {
        "ui": {"resourceUri": "ui://app", "visibility": ["model"]},
        "ui/resourceUri": "ui://app",
        "x/uri": "ui://app",
    }
    assert edited("tools/call", {"content": [], "_meta": meta})["_meta"] == {
        "ui": {"resourceUri": "ui://app#upstream=b", "visibility": ["model"]},
        "ui/resourceUri": "ui://app#upstream=b",
        "x/uri": "ui://app",
    }


@pytest.mark.parametrize("key", [rb"\u0075ri", rb"u\u0072i", rb"\u0075\u0072\u0069"])
@pytest.mark.parametrize("kind", [b"resource_link", rb"resource\u005flink", rb"\u0072esource_link"])
def test_keys_and_types_count_as_json_means_them(key: bytes, kind: bytes) -> None:
    raw = b'{"content":[{"type":"%s","%s":"file:///x","name":"x"}]}' % (kind, key)
    link = json.loads(published_links("tools/call", raw, published))["content"][0]
    assert (link["type"], link["uri"]) == ("resource_link", "file:///x#upstream=b")
    kept = json.loads(published_links("tools/call", raw, published, lambda uri: True))["content"][0]
    assert kept["type"] == "text"


@pytest.mark.parametrize(
    "key", [rb"resourc\u0065Uri", rb"resource\u0055ri", rb"resource\u0055r\u0069", rb"res\u006FurceUri"]
)
def test_the_key_of_a_user_interface_counts_as_json_means_it(key: bytes) -> None:
    raw = b'{"name":"x","_meta":{"ui":{"%s":"ui://app"}}}' % key
    assert json.loads(published_definition(raw, published))["_meta"]["ui"] == {"resourceUri": "ui://app#upstream=b"}


@pytest.mark.parametrize("text", [r"caf\u00e9", r"\u0075ri", r"a \"\u0075ri\" b"])
def test_escapes_elsewhere_change_no_byte(text: str) -> None:
    raw = f'{{"content":[{{"type":"text","text":"{text}"}}]}}'.encode()
    assert published_links("tools/call", raw, published) is raw


def test_links_in_the_result_of_a_completed_task_are_edited_like_those_of_its_tool() -> None:
    link = {"type": "resource_link", "uri": "file:///x"}
    done = {"content": [link], "_meta": {"ui": {"resourceUri": "ui://app"}}, "structuredContent": {"uri": "file:///x"}}
    task = {"resultType": "complete", "taskId": "t", "status": "completed", "result": done, "content": [link]}
    assert edited("tasks/get", task) == {**task, "result": edited("tools/call", done)}
    assert edited("tools/call", done) != done


def test_values_beside_a_link_keep_their_bytes() -> None:
    raw = (
        b'{"n": 1.50, "content": [{"type":"resource_link","uri":"file:///x","size": 1e2}], '
        b'"big": 12345678901234567890123}'
    )
    assert published_links("tools/call", raw, published) == (
        b'{"n":1.50,"content":[{"type":"resource_link","uri":"file:///x#upstream=b","size":1e2}],'
        b'"big":12345678901234567890123}'
    )


@pytest.mark.parametrize(
    "raw",
    [
        b'{"content": [ {"type":"text","text":"no link"} ]}',
        b'{"content": [ {"type":"resource_link","uri":"other:x"} ]}',
        b'{"content": {"uri": "file:///x"}}',
        b'{"content": [7, null, "uri", {"type": 1, "uri": "file:///x"}]}',
        b'{"content": [{"type":"resource_link","uri": 7}, {"type":"resource","resource":["uri"]}]}',
        b'{"_meta": 3, "uri": "file:///x"}',
        b'[{"uri": "file:///x"}]',
        b'{"result": [{"uri": "file:///x"}]}',
        b'"uri"',
    ],
)
def test_what_holds_no_link_that_changes_keeps_its_bytes(raw: bytes) -> None:
    for method in ("tools/call", "prompts/get", "resources/read", "tasks/get", "completion/complete"):
        assert published_links(method, raw, published) is raw


def test_a_definition_names_its_user_interface_as_agents_know_it() -> None:
    raw = b'{"name":"t","_meta":{"ui":{"resourceUri":"ui://app"}}}'
    assert json.loads(published_definition(raw, published))["_meta"]["ui"]["resourceUri"] == "ui://app#upstream=b"
    for same in (b'{"name": "t"}', b'{"name": "resourceUri"}', b'{"_meta": {"ui": "resourceUri"}}'):
        assert published_definition(same, published) is same


@pytest.mark.parametrize("uri", ["file:///x", "file:///x#part", "x://{a}{#b}", "upstream=", "a#upstream=c"])
def test_a_marked_uri_gives_both_back(uri: str) -> None:
    assert unmarked_uri(marked_uri(uri, "b")) == (uri, "b")


@pytest.mark.parametrize("uri", ["", "file:///x", "upstream=b", "x?upstream=b", "x&upstream=b", "x#y#upstream=b"])
def test_other_uris_have_no_mark(uri: str) -> None:
    assert unmarked_uri(uri) == (uri, "")
