"""Missing variables: which of them stop the start, and which only their upstream."""

from pathlib import Path

import pytest

from gateway_core.config import Config, loads
from gateway_core.errors import ConfigError

FILE = Path("/nowhere/mcp-proxy.toml")
HTTP = 'transport = "http"\nurl = "http://localhost:1/mcp"\n'
A = f'[[mcp.proxy.upstreams]]\nname = "a"\n{HTTP}'


def loaded(text: str, **env: str) -> Config:
    return loads(text, FILE, env)


def refused(text: str, **env: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(text, **env)
    return caught.value.problems


def upstream(keys: str) -> str:
    """A file in which the upstream `b` has these keys beside a complete upstream `a`."""
    return f'[mcp.proxy]\non_missing = "skip"\n{A}[[mcp.proxy.upstreams]]\nname = "b"\n{keys}'


@pytest.mark.parametrize(
    "keys",
    [
        'transport = "http"\nurl = "${GONE}"',
        'transport = "http"\nurl = "https://${GONE}/mcp"',
        HTTP + 'headers = { Authorization = "Bearer ${GONE}" }',
        HTTP + 'priority = "${GONE}"',
        HTTP + 'trust_annotations = "${GONE}"',
        HTTP + 'retry = { search = "${GONE}" }',
        HTTP + 'tools = ["x", "${GONE}"]',
        HTTP + '[mcp.proxy.upstreams.auth]\nclient_id = "c"\nclient_secret = "${GONE}"',
        HTTP + '[mcp.proxy.upstreams.auth]\nclient_id = "${GONE}"\nprivate_key = "${file:gone.pem}"',
        'transport = "stdio"\ncommand = "${GONE}"',
        'transport = "stdio"\ncommand = "true"\nargs = ["${GONE}"]\nenv = { KEY = "${file:gone}" }',
    ],
)
def test_a_missing_value_leaves_out_its_upstream_only(keys: str) -> None:
    first, second = loaded(upstream(keys)).proxy.upstreams
    assert (first.name, first.misconfigured) == ("a", "")
    assert second.name == "b"
    assert "(line " in second.misconfigured
    assert "GONE is not set" in second.misconfigured or "cannot be read" in second.misconfigured


def test_the_reason_names_every_key_and_line() -> None:
    found = loaded(upstream(HTTP + 'group = "g"\nheaders = { X-A = "${ONE}", X-B = "${TWO}" }')).proxy.upstreams[1]
    assert "headers.X-A (line 12): environment variable ONE is not set" in found.misconfigured
    assert "headers.X-B (line 12): environment variable TWO is not set" in found.misconfigured
    assert found.group == "g", "keys with a value stay"


def test_by_default_a_missing_value_is_an_error() -> None:
    (problem,) = refused(f'[mcp.proxy]\n{A}headers = {{ X-A = "${{GONE}}" }}')
    assert "GONE is not set" in problem


@pytest.mark.parametrize(("general", "own", "accepted"), [("skip", "error", False), ("error", "skip", True)])
def test_the_upstreams_own_key_comes_first(general: str, own: str, accepted: bool) -> None:
    text = f'[mcp.proxy]\non_missing = "{general}"\n{A}on_missing = "{own}"\nheaders = {{ X-A = "${{GONE}}" }}'
    if accepted:
        assert loaded(text).proxy.upstreams[0].misconfigured
    else:
        assert "GONE is not set" in refused(text)[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (upstream(HTTP + 'headers = { X-A = "${GONE}" }\nprioritty = 1'), "did you mean"),
        (upstream('transport = "http"\nheaders = { X-A = "${GONE}" }'), "url: "),
        (upstream('transport = "${GONE}"\nurl = "http://localhost:1/mcp"'), "GONE is not set"),
        (upstream(HTTP + 'headers = { X-A = "${not a name}" }'), "placeholder"),
        (upstream(HTTP + 'headers = { X-A = "${GONE" }'), 'without its "}"'),
        (upstream(HTTP + 'misconfigured = "x"'), "is not a known key"),
        ('[mcp.proxy]\non_missing = "skip"\nhost = "${GONE}"', "GONE is not set"),
        ('[mcp.proxy]\non_missing = "skip"\nstate_keys = ["${GONE}"]', "GONE is not set"),
        ('[mcp.proxy]\non_missing = "skip"\n[[mcp.proxy.plugins]]\nname = "p"\nkey = "${GONE}"', "GONE is not set"),
        ('[mcp.proxy]\non_missing = "skip"\n[[mcp.proxy.upstreams]]\nname = "${GONE}"\n' + HTTP, "GONE is not set"),
    ],
)
def test_everything_else_stays_an_error(text: str, said: str) -> None:
    (problem,) = refused(text)
    assert said in problem


def test_what_is_switched_off_needs_no_values() -> None:
    config = loaded(
        f'[mcp.proxy]\n{A}[[mcp.proxy.upstreams]]\nname = "b"\nenabled = false\ntransport = "http"\nurl = "${{GONE}}"\n'
        '[[mcp.proxy.plugins]]\nname = "p"\nenabled = false\nkey = "${GONE}"'
    )
    assert [one.name for one in config.proxy.upstreams] == ["a"]
    assert [one.name for one in config.disabled] == ["b"]


def test_a_switched_off_upstream_is_still_checked() -> None:
    problems = refused(f'[mcp.proxy]\n{A}enabled = false\nprioritty = 1\n[[mcp.proxy.upstreams]]\nname = "a"\n{HTTP}')
    assert ["did you mean" in problems[0], "is taken" in problems[1]] == [True, True]


def test_the_environment_can_switch_an_upstream() -> None:
    text = f'[mcp.proxy]\n{A}enabled = "${{USE_A:-true}}"'
    assert loaded(text).disabled == ()
    assert [one.name for one in loaded(text, USE_A="no").disabled] == ["a"]


def test_the_error_mentions_on_missing_once_and_only_if_the_file_does_not_set_it() -> None:
    file = "[mcp.proxy]\n" + "".join(
        f'[[mcp.proxy.upstreams]]\nname = "{name}"\n{HTTP}headers = {{ A = "${{GONE}}" }}\n' for name in "ab"
    )
    first, second = refused(file)
    assert 'to start without this upstream instead, write on_missing = "skip" in its table' in first
    assert "on_missing" not in second
    chosen = file.replace("[mcp.proxy]", '[mcp.proxy]\non_missing = "error"')
    assert not any("on_missing" in problem for problem in refused(chosen))
