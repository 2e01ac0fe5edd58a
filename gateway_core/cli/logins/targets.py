"""Finds the upstream of a login, and the file that keeps the logins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gateway_core.cli.locate import UsageError, locate
from gateway_core.cli.report import Failed
from gateway_core.cli.running import pid_file_in_use
from gateway_core.cli.settings import logins_file
from gateway_core.cli.state.folder import prepare, state_folder
from gateway_core.config import AuthConfig, Config, UpstreamConfig, load
from gateway_core.files import Unusable
from gateway_core.upstream.auth.logins import Logins


@dataclass(frozen=True, slots=True)
class Target:
    """An upstream with `grant = "authorization_code"`."""

    config: Config
    upstream: UpstreamConfig
    auth: AuthConfig
    folder: Path
    """The state folder of the running gateway, or the one of the next start."""

    @property
    def file(self) -> Path:
        """The file that keeps the logins."""
        assert self.config.path is not None, "it was read from a file"
        return logins_file(self.config.path, self.folder)


def find(config: Path | None, name: str) -> Target:
    """The upstream `name` of the configuration. Raises `UsageError`, `ConfigError`, `Failed`."""
    path = locate(config)
    running = pid_file_in_use(path)
    folder = running.parent if running is not None else state_folder(path)
    settings = load(path, state=folder)
    every = (*settings.proxy.upstreams, *settings.disabled)
    usable = {it.name: it for it in every if it.auth is not None and it.auth.grant == "authorization_code"}
    if name not in usable:
        raise UsageError(_why_not(name, [it.name for it in every], list(usable), path))
    upstream = usable[name]
    if upstream.misconfigured:
        raise Failed(f"upstream {name} is misconfigured: {upstream.misconfigured}")
    assert upstream.auth is not None, "see above"
    prepare(folder)
    return Target(settings, upstream, upstream.auth, folder)


async def opened(target: Target) -> Logins:
    """The logins in the file. Raises `Failed` if a login could not be added to them."""
    logins = Logins(target.file)
    try:
        await logins.check()
    except Unusable as problem:
        raise Failed(
            f"{target.file} cannot be used: {problem}\n  to start again without its logins, delete the file"
        ) from None
    await logins.load()
    return logins


def _why_not(name: str, every: list[str], usable: list[str], path: Path) -> str:
    if name in every:
        return (
            f"{path}: upstream {name} has no login\n"
            "  for a server that needs one, write this below its entry:\n"
            "    [mcp.proxy.upstreams.auth]\n"
            '    grant = "authorization_code"'
        )
    known = f"those with a login are: {', '.join(usable)}" if usable else "no upstream has a login"
    return f"{path}: there is no upstream {name}; {known}"
