import pytest

from gateway_core.cli.importing.client_file import NotReadable, parse, read


def test_comments_and_trailing_commas_are_allowed_outside_of_texts():
    text = '{/* a */ "a": "//x, }", // b\n "b": [1, 2, ], "c": "/* y */",}'
    assert parse(text) == {"a": "//x, }", "b": [1, 2], "c": "/* y */"}


@pytest.mark.parametrize("text", ["{", '{"a": 1 "b": 2}', "[" * 100_000])
def test_other_mistakes_are_mistakes(text):
    with pytest.raises(ValueError, match=r"line 1|nested"):
        parse(text)


def test_a_file_is_bounded_and_must_be_text(tmp_path, monkeypatch):
    path = tmp_path / "mcp.json"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(NotReadable, match="not UTF-8"):
        read(path)
    monkeypatch.setattr("gateway_core.cli.importing.client_file.MAX_FILE", 5)
    path.write_text('{"mcpServers": {}}')
    with pytest.raises(NotReadable, match="larger than"):
        read(path)
    with pytest.raises(NotReadable, match="directory"):
        read(tmp_path)


def test_a_byte_order_mark_is_skipped(tmp_path):
    path = tmp_path / "mcp.json"
    path.write_bytes(b'\xef\xbb\xbf{"mcpServers": {"a": {"command": "x"}}}')
    assert [server.name for server in read(path).servers] == ["a"]
