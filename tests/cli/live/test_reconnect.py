"""How long `reconnect` waits: as long as the gateway connects."""

import itertools
from typing import Any

import pytest

from gateway_core.cli.live import reconnect
from gateway_core.cli.report import Failed


class Gateway:
    """States of one upstream, each shown for some seconds on a clock that goes on when the command sleeps."""

    def __init__(self, *states: tuple[float, str, int]) -> None:
        self.states = states
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def status(self, *_: Any) -> dict[str, Any]:
        ends = itertools.accumulate(seconds for seconds, _, _ in self.states)
        shown = (states for end, states in zip(ends, self.states, strict=True) if self.now < end)
        _end, state, connects = next(shown, self.states[-1])
        one = {"name": "slow", "state": state, "connects": connects, "server": "s 1", "last_error": "no answer"}
        return {"upstreams": [one]}


def run(monkeypatch: pytest.MonkeyPatch, gateway: Gateway) -> None:
    monkeypatch.setattr(reconnect, "time", gateway)
    monkeypatch.setattr(reconnect, "instance", lambda config: None)
    monkeypatch.setattr(reconnect, "send", lambda *_: None)
    monkeypatch.setattr(reconnect, "fetch", gateway.status)
    reconnect.reconnect(None, "slow")


def test_a_server_may_take_long_to_start(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run(monkeypatch, Gateway((1, "healthy", 1), (900, "connecting", 1), (9, "healthy", 2)))
    assert "slow is connected: s 1" in capsys.readouterr().err


def test_a_drained_server_is_connected_again_and_stays_drained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, Gateway((1, "draining", 1), (3, "connecting", 1), (9, "draining", 2)))
    assert "slow is connected: s 1" in capsys.readouterr().err


def test_a_server_that_was_stopped_is_started(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, Gateway((1, "idle", 1), (3, "connecting", 1), (9, "healthy", 2)))
    assert "slow is connected: s 1" in capsys.readouterr().err


@pytest.mark.parametrize("state", ["healthy", "ejected", "draining", "idle"])
def test_a_gateway_that_does_not_connect_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    gateway = Gateway((10_000, state, 1))
    with pytest.raises(Failed, match="was not connected again"):
        run(monkeypatch, gateway)
    assert gateway.now == pytest.approx(reconnect.PATIENCE, abs=1)


def test_a_failure_is_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Failed, match="slow is in backoff: no answer"):
        run(monkeypatch, Gateway((200, "connecting", 1), (9, "in_backoff", 1)))
