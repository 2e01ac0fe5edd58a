"""Shows the configuration file without its secrets, and changes it together with the configuration in force.

An edit is checked whole. Its new content is written beside the file, which it replaces right before the switch to
the new configuration. If anything fails before the switch, both stay as they were. If a bug makes a step of the switch
fail, both are new, and the edit raises `PartlyApplied`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec

from gateway_core.config import Config, read_file, text_of
from gateway_core.config.loader import FILE_LIMIT
from gateway_core.errors import ConfigError, EditRefused, FileProblem, OutdatedEdit, PluginError
from gateway_core.generations import reloads
from gateway_core.generations.draft import Draft, unwritable, version_of
from gateway_core.generations.editing import powers
from gateway_core.generations.editing.concealed import FileText
from gateway_core.generations.editing.keyed import Change, KeyChange, changed
from gateway_core.generations.reloads import Reloads, Report
from gateway_core.generations.source import Prepared, Source
from gateway_core.generations.turns import Turns, in_seconds


class ShownFile(msgspec.Struct, frozen=True):
    """The configuration file for operators."""

    path: str
    writable: bool
    reason: str
    """Why it is not writable; empty if it is."""
    text: str
    """Its content without secrets."""
    version: str
    """A digest of its content."""


class _OnDisk(msgspec.Struct, frozen=True):
    """The file as it is now."""

    version: str
    text: FileText


class _Edited(msgspec.Struct, frozen=True):
    """Implements `Content`: another text in place of the content of the file."""

    base: Source
    text: Callable[[], str]
    """Makes the text; may block."""

    def read(self) -> Config:
        return self.base.check(self.text())

    def prepare(self, config: Config) -> Prepared:
        return self.base.prepare(config)


class Edits:
    """The edits of one gateway, which follow each other."""

    def __init__(
        self,
        reloads: Reloads,
        file: Callable[[], Source],
        reported: Callable[[Awaitable[Report]], Awaitable[Report]],
        listening: Callable[[], bool],
    ) -> None:
        """`file`: the file of the gateway; raises `ReloadRefused` if there is none, or not now. `reported` logs what
        came of a reload. `listening`: whether agents connect over the network."""
        self._reloads = reloads
        self._file = file
        self._reported = reported
        self._listening = listening
        self._turns = Turns()

    async def show(self) -> ShownFile:
        """The file as it is now. Raises `ConfigError` for one that cannot be read or is no TOML."""
        return await asyncio.to_thread(self._show, self._file().path)

    def _show(self, path: Path) -> ShownFile:
        reason, now = unwritable(path), self._on_disk(path)
        return ShownFile(str(path), not reason, reason, now.text.hidden, now.version)

    async def problems(self, text: str) -> Sequence[str]:
        """What is wrong with a text as the content of the file; empty if a reload would accept it.

        Raises `TryLater`.
        """
        try:
            await self.compare(text)
        except (ConfigError, PluginError, EditRefused) as error:
            return error.problems or [str(error)]
        return ()

    async def compare(self, text: str) -> Report:
        """What a text as the content of the file would change.

        Raises `ConfigError`, `PluginError`, `EditRefused`, `TryLater`.
        """
        source = self._file()

        def judged() -> str:
            return self._judged(source.path, lambda before: before.restored(self._given(text)))[1].text

        return await self._reloads.compare(_Edited(source, judged), listening=self._listening())

    async def replace(self, text: str, version: str) -> tuple[Report, str]:
        """Make a text the content of the file, in which `MARKER` stands for what the file has, and put it in force.

        `version`: the one that the text was made of. Returns what changed, and the new version. Raises `OutdatedEdit`,
        `EditRefused`, `TryLater`, `OSError`, and as a reload.
        """
        return await self._apply(lambda before: before.restored(self._given(text)), version)

    async def change(self, changes: Sequence[Change], version: str | None = None) -> tuple[Report, str]:
        """Change single keys of the file, and put it in force; returns and raises as `replace`."""

        def edited(before: FileText) -> FileText:
            text = changed(before.text, changes, str(self._file().path))
            return before.restored(before.with_text(text))

        return await self._apply(edited, version)

    async def enable(self, upstream: str, enabled: bool) -> tuple[Report, str] | None:
        """Write `enabled` into the table of an upstream, and put it in force.

        Returns None if the file has no such upstream; else returns and raises as `replace`.
        """
        now = await asyncio.to_thread(self._on_disk, self._file().path)
        if ("mcp", "proxy", "upstreams", ("named", upstream), "name") not in now.text.strings:
            return None
        return await self.change([KeyChange(f'upstreams."{upstream}".enabled', enabled)])

    async def _apply(self, edit: Callable[[FileText], FileText], version: str | None) -> tuple[Report, str]:
        until = in_seconds(reloads.CHANGE_WAIT)
        async with self._turns.turn("an edit of the configuration", until):
            source = self._file()
            now, after = await asyncio.to_thread(self._judged, source.path, edit, version)
            content = after.text.encode()
            if len(content) > FILE_LIMIT:
                raise ConfigError([FileProblem(str(source.path), None, None, _TOO_LARGE)])
            made: list[Draft] = []

            def draft() -> Draft:
                made.append(Draft(source.path, content, now.version, source.replaced))
                return made[0]

            edited = _Edited(source, lambda: after.text)
            reload = self._reloads.reload(edited, listening=self._listening(), draft=draft, until=until)
            report = await self._reported(reload)
            return report, made[0].version

    def _judged(
        self, path: Path, edit: Callable[[FileText], FileText], version: str | None = None
    ) -> tuple[_OnDisk, FileText]:
        """The file, and an edit of it that the control plane may write."""
        now = self._on_disk(path)
        if version is not None and version != now.version:
            raise OutdatedEdit()
        after = edit(now.text)
        allowed = self._reloads.current.config.proxy.control.allow_commands
        if found := powers.forbidden(now.text, after, allowed=allowed):
            raise EditRefused("\n".join(found), found)
        return now, after

    def _on_disk(self, path: Path) -> _OnDisk:
        content = read_file(path)
        return _OnDisk(version_of(content), self._text(path, text_of(path, content)))

    def _given(self, text: str) -> FileText:
        path = self._file().path
        if len(text.encode(errors="replace")) > FILE_LIMIT:
            raise ConfigError([FileProblem(str(path), None, None, _TOO_LARGE)])
        return self._text(path, text)

    def _text(self, path: Path, text: str) -> FileText:
        return FileText(text, path, self._reloads.current.chain.secrets, self._reloads.held.clean_line)


_TOO_LARGE = f"would be larger than {FILE_LIMIT // 1024} KiB"
