"""Edits of the file of a running gateway: what is shown, what is written, and what nothing is written for."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from gateway_core.concealing import MARKER
from gateway_core.errors import ConfigError, EditRefused, OutdatedEdit, PartlyApplied, PluginError, ReloadRefused
from gateway_core.gateway import Gateway
from gateway_core.generations.draft import version_of
from gateway_core.generations.editing.edits import Edits
from gateway_core.generations.editing.keyed import KeyChange
from tests.generations.conftest import Stand, names, served, text

pytestmark = pytest.mark.timeout(180)
TOKEN = "s3cr3t-t0ken-1"


@pytest.fixture
async def edits(stand: Stand) -> Edits:
    """The edits of a gateway with one upstream on stdio, whose file has comments and a secret."""
    await stand.start(served("one", env={"API_TOKEN": TOKEN}))
    stand.path.write_text(f"# The servers of the team.\n{stand.path.read_text()}")
    return stand.gateway.edits


async def test_the_file_is_shown_with_its_version_and_without_its_secrets(edits: Edits, stand: Stand) -> None:
    shown = await edits.show()
    assert (shown.path, shown.writable, shown.reason) == (str(stand.path), True, "")
    assert shown.version == version_of(stand.path.read_bytes())
    assert TOKEN not in shown.text
    assert f'API_TOKEN = "{MARKER}"' in shown.text
    assert shown.text.startswith("# The servers of the team.")


async def test_a_text_with_markers_is_written_with_the_secrets_and_put_in_force(edits: Edits, stand: Stand) -> None:
    shown = await edits.show()
    async with stand.client() as client:
        pid = await text(client, "one_pid")
        waiting = asyncio.ensure_future(text(client, "one_wait", seconds=2))
        async with asyncio.timeout(60):
            while not stand.gateway.pool.upstreams[0].facts.in_flight:
                await asyncio.sleep(0.01)
        report, version = await edits.replace(
            shown.text.replace("enable = true", "enable = true\ntimeout = 7.0"), shown.version
        )
        assert [str(change) for change in report.changes] == ["timeout: changed (60.0 -> 7.0)"]
        assert await text(client, "one_pid") == pid
        assert await waiting == "waited"
    written = stand.path.read_text()
    assert written == written.replace(MARKER, "")
    assert TOKEN in written
    assert written.startswith("# The servers of the team.")
    assert version == version_of(stand.path.read_bytes())
    assert stand.gateway.pipeline.timeout == 7.0
    assert stand.notes == ["written", "applied"]


async def test_what_a_reload_refuses_leaves_the_file_as_it_is(edits: Edits, stand: Stand) -> None:
    before, shown = stand.path.read_bytes(), await edits.show()
    for wanted, error in (
        ("timeout = 'x'", ConfigError),
        ("= broken", ConfigError),
        ('log = { file = "x" }', EditRefused),
    ):
        with pytest.raises(error):
            await edits.replace(shown.text.replace("enable = true", wanted, 1), shown.version)
    with pytest.raises(PluginError):
        await edits.change([KeyChange("plugins.security_redact", {"wrong": 1})])
    stand.refuses = "mcp.proxy.log.file: cannot be opened"
    with pytest.raises(ConfigError, match="cannot be opened"):
        await edits.change([KeyChange("timeout", 3.0)])
    assert stand.path.read_bytes() == before
    assert os.listdir(stand.path.parent) == [stand.path.name]
    assert stand.gateway.status()["generation"] == 1
    assert stand.notes == []


async def test_a_failure_right_before_the_switch_leaves_both_as_they_are(
    edits: Edits, stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = stand.path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        await edits.change([KeyChange("timeout", 3.0)])
    assert stand.path.read_bytes() == before
    assert stand.gateway.pipeline.timeout == 60.0
    assert stand.notes == ["discarded"]


async def test_after_a_failure_in_the_switch_both_are_new(
    edits: Edits, stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(stand.gateway.budget, "limit_to", broken)
    with pytest.raises(PartlyApplied, match="restart the gateway"):
        await edits.change([KeyChange("timeout", 3.0)])
    assert "timeout = 3.0" in stand.path.read_text()
    assert stand.gateway.pipeline.timeout == 3.0
    assert stand.notes == ["written", "applied"]


async def test_a_version_that_is_not_that_of_the_file_is_refused(edits: Edits, stand: Stand) -> None:
    shown = await edits.show()
    stand.path.write_text(stand.path.read_text() + "# by an editor\n")
    with pytest.raises(OutdatedEdit):
        await edits.replace(shown.text, shown.version)
    with pytest.raises(OutdatedEdit):
        await edits.change([KeyChange("timeout", 3.0)], shown.version)
    await edits.change([KeyChange("timeout", 3.0)])
    assert stand.path.read_text().endswith("# by an editor\n")


async def test_edits_at_the_same_time_follow_each_other(edits: Edits, stand: Stand) -> None:
    keys = ("timeout", "max_timeout", "question_timeout", "drain_timeout")
    await asyncio.gather(*(edits.change([KeyChange(key, 11.0)]) for key in keys))
    assert all(f"{key} = 11.0" in stand.path.read_text() for key in keys)
    assert stand.gateway.status()["generation"] == 1 + len(keys)


async def test_what_needs_a_restart_is_written_and_named(edits: Edits, stand: Stand) -> None:
    report, _ = await edits.change([KeyChange("control.port", 4999)])
    assert [change.name for change in report.changes if change.restart] == ["control.port"]
    assert "port = 4999" in stand.path.read_text()
    assert stand.gateway.status()["generation"] == 1


async def test_a_command_is_written_only_where_the_file_allows_it(edits: Edits, stand: Stand) -> None:
    before = stand.path.read_bytes()
    added = KeyChange("upstreams.two", {key: value for key, value in served("two").items() if key != "name"})
    with pytest.raises(EditRefused, match=r"would run a program.*control\.allow_commands = true"):
        await edits.change([added])
    with pytest.raises(EditRefused, match="is not changed through the control plane"):
        await edits.change([KeyChange("control.allow_commands", True)])
    assert stand.path.read_bytes() == before
    stand.path.write_text(
        stand.path.read_text().replace("enable = true", "enable = true\ncontrol.allow_commands = true")
    )
    with pytest.raises(EditRefused):
        await edits.change([added])
    await stand.gateway.reload()
    await edits.change([added])
    async with stand.client() as client:
        assert "two_pid" in await names(client)


async def test_validation_and_comparison_read_nothing_that_may_not_be_written(
    edits: Edits, stand: Stand, tmp_path: Path
) -> None:
    secret = tmp_path / "number"
    secret.write_text("4711")
    shown = (await edits.show()).text
    asked = shown.replace("enable = true", f'enable = true\ntimeout = "${{file:{secret}}}"')
    (problem,) = await edits.problems(asked)
    assert "names a variable or a file" in problem
    with pytest.raises(EditRefused):
        await edits.compare(asked)
    assert list(await edits.problems(shown)) == []
    found = await edits.problems(shown.replace("enable = true", "enable = true\ntimeout = 'x'\nnonsense = 1"))
    assert [one.rpartition("mcp.proxy.")[2].partition(":")[0] for one in found] == ["timeout", "nonsense"]
    report = await edits.compare(shown.replace("enable = true", "enable = true\ntimeout = 9.0"))
    assert [str(change) for change in report.changes] == ["timeout: changed (60.0 -> 9.0)"]
    assert stand.gateway.pipeline.timeout == 60.0


async def test_an_upstream_is_disabled_and_enabled_in_the_file(edits: Edits, stand: Stand) -> None:
    found = await edits.enable("one", False)
    assert found is not None
    assert [str(change) for change in found[0].changes] == ["upstream one: disabled"]
    assert "enabled = false" in stand.path.read_text()
    async with stand.client() as client:
        assert await names(client) == set()
    await edits.enable("one", True)
    async with stand.client() as client:
        assert "one_pid" in await names(client)
    assert await edits.enable("nobody", False) is None


async def test_a_read_only_file_says_so_and_stays(edits: Edits, stand: Stand) -> None:
    stand.path.chmod(0o400)
    shown = await edits.show()
    assert (shown.writable, shown.reason) == (False, "it is read-only")
    with pytest.raises(EditRefused, match="read-only"):
        await edits.change([KeyChange("timeout", 3.0)])
    assert stand.gateway.pipeline.timeout == 60.0


async def test_texts_and_files_are_bounded(edits: Edits) -> None:
    version = (await edits.show()).version
    with pytest.raises(ConfigError, match="larger than 1024 KiB"):
        await edits.replace("#" * (1024 * 1024 + 1), version)
    with pytest.raises(ConfigError, match="larger than 1024 KiB"):
        await edits.change([KeyChange("upstreams.one.group", "g" * 1024 * 1024)])


async def test_a_gateway_without_a_file_has_none_to_edit(stand: Stand) -> None:
    stand.write(served("one"))
    gateway = Gateway(stand.read())
    with pytest.raises(ReloadRefused, match="not started from a file"):
        await gateway.edits.show()
