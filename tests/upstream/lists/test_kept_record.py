"""What a file of kept lists holds, and which settings identify a server."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway_core.concealing import HeldSecrets, Secret
from gateway_core.config import UpstreamConfig
from gateway_core.files import Unusable
from gateway_core.mcp.cache_hints import Hint
from gateway_core.upstream.base import ServerInfo
from gateway_core.upstream.lists import kept_record
from gateway_core.upstream.lists.fetched_lists import FetchedLists, Item
from gateway_core.upstream.lists.kept_record import NOT_IDENTIFYING, Known, decoded, encoded, kept_part

CONFIG = UpstreamConfig(name="a", transport="stdio", command="server", args=("--token", "s3cret-token"))
INFO = ServerInfo("modern", "2026-07-28", {"tools": {"listChanged": True}}, "server", "1.2", "Be kind.", Hint(9, True))
TOOL = Item(
    "tool",
    "add",
    b'{"name":"add","inputSchema":{"type":"object"}}',
    "digest",
    {("city", "zip"): "Zip"},
    {"outputSchema": None, "inputSchema": b'{"type":"object"}'},
)
LISTS = FetchedLists({"tool": (TOOL,)}, {"tool": Hint(1000, False)}, {"tool": ("add is repaired",)})


def through_a_file(lists: FetchedLists = LISTS, *, info: ServerInfo = INFO, **now: Any) -> Known | None:
    part = kept_part(CONFIG, info, lists)
    assert part is not None
    return decoded(encoded(CONFIG, part), CONFIG.model_copy(update=now), bytes)


def test_a_file_gives_back_every_field_of_lists_and_server() -> None:
    found = through_a_file()
    assert found == Known(
        replace(INFO, hint=Hint(0, True)),
        FetchedLists(LISTS.items, {"tool": Hint(0, False)}, LISTS.notes, last_known=True),
    )


def test_kept_lists_are_those_of_all_agents_until_the_server_is_reached() -> None:
    found = through_a_file()
    assert LISTS.private == {"tool"}
    assert found is not None
    assert not found.lists.private
    assert found.lists.ttl_ms == 0


def test_lists_of_a_server_that_tells_agents_apart_are_kept_only_if_they_are_public() -> None:
    config = UpstreamConfig(name="a", transport="http", url="http://x/", forward={"X-User": "principal.subject"})
    info = replace(INFO, capabilities={"tools": {}, "prompts": {}})
    prompt = Item("prompt", "p", b'{"name":"p"}', "digest")
    lists = FetchedLists({"tool": (TOOL,), "prompt": (prompt,)}, {"tool": Hint(0, False), "prompt": Hint(0, True)})
    found = kept_part(config, info, lists)
    assert found is not None
    assert found.lists.items == {"prompt": (prompt,)}
    assert list(found.lists.failures) == ["tool"], "so that the list does not count as complete"
    assert kept_part(config, info, lists.only(["tool"])) is None


def test_a_list_that_the_server_announced_and_that_was_never_fetched_is_reported_as_missing() -> None:
    found = through_a_file(info=replace(INFO, capabilities={"tools": {}, "prompts": {}}))
    assert found is not None
    assert found.lists.failures == {"prompt": "prompts/list of upstream a is not known until the upstream is reached"}


@pytest.mark.parametrize(
    "now", [{"command": "other"}, {"args": ("--token", "other")}, {"env": {"A": "b"}}, {"cwd": "/"}, {"tools": ("x",)}]
)
def test_another_setting_that_identifies_the_server_drops_its_lists(now: dict[str, Any]) -> None:
    assert through_a_file(**now) is None


@pytest.mark.parametrize("now", [{"timeout": 5.0}, {"priority": 7}, {"name": "b"}, {"max_in_flight": 2}])
def test_how_a_server_is_used_changes_nothing(now: dict[str, Any]) -> None:
    assert through_a_file(**now) is not None


def test_every_setting_that_does_not_identify_a_server_exists() -> None:
    assert UpstreamConfig.model_fields.keys() >= NOT_IDENTIFYING


def test_a_file_holds_no_setting_and_no_digest_that_two_files_share() -> None:
    part = kept_part(CONFIG, INFO, LISTS)
    assert part is not None
    first, second = encoded(CONFIG, part), encoded(CONFIG, part)
    assert b"s3cret" not in first
    digests = [data.split(b'"settings":"')[1][:64] for data in (first, second)]
    assert digests[0] != digests[1]


def test_a_secret_that_the_gateway_holds_now_is_hidden_in_kept_lists() -> None:
    part = kept_part(CONFIG, INFO, LISTS)
    assert part is not None
    held = HeldSecrets([Secret("a key", "Be kind.")])
    found = decoded(encoded(CONFIG, part), CONFIG, held.clean)
    assert found is not None
    assert found.info.instructions == "[REDACTED]"


def test_lists_that_another_version_of_the_gateway_wrote_are_fetched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    part = kept_part(CONFIG, INFO, LISTS)
    assert part is not None
    monkeypatch.setattr(kept_record, "_gateway", lambda: "0.0.1")
    data = encoded(CONFIG, part)
    monkeypatch.undo()
    assert decoded(data, CONFIG, bytes) is None


@pytest.mark.parametrize("cut", [slice(0, -1), slice(0, 70), slice(0, 0), slice(1, None)])
def test_a_damaged_file_is_unusable(cut: slice) -> None:
    part = kept_part(CONFIG, INFO, LISTS)
    assert part is not None
    with pytest.raises(Unusable, match="it is damaged"):
        decoded(encoded(CONFIG, part)[cut], CONFIG, bytes)
