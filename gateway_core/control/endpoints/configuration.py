"""The configuration in force."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from gateway_core.control.endpoint import AnyEndpoint, Asked, Endpoint, Problem
from gateway_core.errors import ConfigError, PluginError, ReloadRefused, parts_of

RELOAD_TIME: Final = 120.0
"""Seconds that a reload may take: plugins start, and new upstreams connect."""


class Report(Protocol):
    """The result of a reload, or what one would do."""

    def as_json(self) -> dict[str, Any]: ...


class Operations(Protocol):
    """What these endpoints need from the gateway."""

    async def reload(self) -> Report:
        """Put the configuration of the file in force. Raises `ConfigError`, `PluginError`, `ReloadRefused`."""

    async def compare(self) -> Report:
        """What `reload` would change. Raises as `reload`."""

    async def restart(self) -> None:
        """Begin to restart. Raises as `reload`."""


async def reported(asked: Asked[Any, Any], work: Callable[[], Awaitable[Report]]) -> dict[str, Any]:
    """The report of a reload, or of what one would do. Raises `Problem`."""

    async def report() -> dict[str, Any]:
        return (await work()).as_json()

    return await of_file(asked, report)


async def of_file(asked: Asked[Any, Any], work: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    """The answer of work that reads the file. Raises `Problem`."""
    asked.give_time(RELOAD_TIME)
    try:
        return await work()
    except ReloadRefused as error:
        raise Problem(409, str(error)) from None
    except (ConfigError, PluginError) as error:
        problems = error.problems or [str(error)]
        shown = [{**parts_of(one), "text": str(one)} for one in problems]
        raise Problem(422, str(error), problems=shown) from None


PROBLEMS: Final = {409: "The gateway starts or stops, or has no file", 422: "The configuration is wrong"}


def endpoints(operations: Operations) -> tuple[AnyEndpoint, ...]:
    """The configuration."""

    async def reload(asked: Asked[None, None]) -> dict[str, Any]:
        return await reported(asked, operations.reload)

    async def diff(asked: Asked[None, None]) -> dict[str, Any]:
        return await reported(asked, operations.compare)

    async def restart(asked: Asked[None, None]) -> dict[str, Any]:
        async def begin() -> dict[str, Any]:
            await operations.restart()
            return {"restarting": True}

        return await of_file(asked, begin)

    return (
        Endpoint(
            "POST",
            "/admin/reload",
            "change",
            "Put the configuration of the file in force",
            dict[str, Any],
            reload,
            problems=PROBLEMS,
        ),
        Endpoint(
            "POST",
            "/admin/restart",
            "change",
            "Begin to restart the process, which keeps its sockets and the sessions of agents",
            dict[str, Any],
            restart,
            problems=PROBLEMS,
        ),
        Endpoint("GET", "/admin/diff", "read", "What a reload would change", dict[str, Any], diff, problems=PROBLEMS),
    )
