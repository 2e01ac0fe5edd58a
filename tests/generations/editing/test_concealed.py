"""The file without its secrets, and the way back."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from gateway_core.concealing import MARKER, HeldSecrets, Secret
from gateway_core.errors import ConfigError
from gateway_core.generations.editing.concealed import FileText

KEY = "-----BEGIN PRIVATE KEY-----\nMIIBVgIBADANBgkqhkiG9w0BAQEFAASCAUAwggE8\n-----END PRIVATE KEY-----\n"
TEXT = f'''\
[mcp.proxy] # the gateway
enable = true
state_keys = ["0123456789abcdef0123456789abcdef"]  # 0123456789abcdef0123456789abcdef

# headers = {{ Authorization = "Bearer old-s3cr3t-77" }}
[[mcp.proxy.upstreams]]
name = "first"
transport = "http"
url = "https://example.com/mcp?key=q1w2e3r4t5"
headers = {{ Authorization = "Bearer a1b2c3d4e5f6", X-Env = "${{FROM_ENV}}", X-Token = "abc" }}

[mcp.proxy.upstreams.auth]
client_id = "gateway"
private_key = """
{KEY}"""

[[mcp.proxy.upstreams]]
name = "second"
transport = "stdio"
command = "server"
args = ["--verbose", "--token", "z9y8x7w6v5"]

[[mcp.proxy.plugins]]
name = "observe_metrics"
token = "plugin-s3cr3t-1"
'''
SECRETS = ("0123456789abcdef", "old-s3cr3t", "q1w2e3r4t5", "a1b2c3d4e5f6", "MIIBVg", "z9y8x7", "plugin-s3cr3t", '"abc"')


def of(text: str) -> FileText:
    return FileText(text, Path("f.toml"))


def test_no_secret_is_shown_and_everything_else_is() -> None:
    hidden = of(TEXT).hidden
    assert [secret for secret in SECRETS if secret in hidden] == []
    raw = tomllib.loads(hidden)["mcp"]["proxy"]
    first, second = raw["upstreams"]
    assert first["url"] == f"https://example.com/mcp?key={MARKER}"
    assert first["headers"] == {"Authorization": MARKER, "X-Env": "${FROM_ENV}", "X-Token": MARKER}
    assert first["auth"] == {"client_id": "gateway", "private_key": MARKER}
    assert second["args"] == ["--verbose", "--token", MARKER]
    assert raw["plugins"][0]["token"] == MARKER
    assert f"]  # {MARKER}" in hidden
    shown, kept = hidden.split("\n"), TEXT.split("\n")
    assert len(shown) == len(kept)
    assert [line for line in kept if not any(secret in line for secret in SECRETS)][-5:] == [
        'command = "server"',
        "",
        "[[mcp.proxy.plugins]]",
        'name = "observe_metrics"',
        "",
    ]


def test_what_is_shown_becomes_the_file_again() -> None:
    text = of(TEXT)
    assert text.restored(of(text.hidden)).text == TEXT
    windows = TEXT.replace("\n", "\r\n")
    assert of(windows).restored(of(of(windows).hidden)).text == windows


def test_secrets_stay_with_their_entries_when_those_move() -> None:
    text = of(TEXT)
    blocks = text.hidden.split("[[mcp.proxy.upstreams]]")
    moved = of("[[mcp.proxy.upstreams]]".join((blocks[0], blocks[2].split("[[mcp.proxy.plugins]]")[0], blocks[1])))
    upstreams = text.restored(moved).raw["mcp"]["proxy"]["upstreams"]
    assert upstreams[0]["args"][2] == "z9y8x7w6v5"
    assert upstreams[1]["headers"]["Authorization"] == "Bearer a1b2c3d4e5f6"
    assert upstreams[1]["auth"]["private_key"] == KEY


@pytest.mark.parametrize(
    ("shown", "given"),
    [
        ('name = "first"', 'name = "other"'),
        (f'Authorization = "{MARKER}"', f'Authorization = "Basic {MARKER}"'),
        (f'Authorization = "{MARKER}"', f'X-Other = "{MARKER}"'),
        ('client_id = "gateway"', f'client_id = "{MARKER}"'),
        ('"--verbose", ', ""),
    ],
)
def test_a_marker_without_a_secret_of_the_file_is_an_error_with_its_line(shown: str, given: str) -> None:
    text = of(TEXT)
    assert shown in text.hidden
    with pytest.raises(ConfigError, match=r"f\.toml:\d+: mcp\.proxy\.upstreams\[.\]\.") as found:
        text.restored(of(text.hidden.replace(shown, given)))
    assert not any(secret in str(found.value) for secret in SECRETS)


def test_a_secret_argument_goes_back_only_to_its_tool() -> None:
    text = of(
        '[mcp.proxy]\nenable = true\n[[mcp.proxy.profiles]]\nname = "support"\n[[mcp.proxy.profiles.overrides]]\n'
        'tool = "tracker:search"\nname = "search"\nfixed = { token = "a1b2c3d4e5f6" }\n'
    )
    renamed = text.restored(of(text.hidden.replace('name = "search"', 'name = "find"')))
    assert renamed.text == text.text.replace('name = "search"', 'name = "find"')
    with pytest.raises(ConfigError, match=r"overrides\[0\]\.fixed\.token"):
        text.restored(of(text.hidden.replace("tracker:search", "attacker:search")))


def test_a_changed_value_takes_the_place_of_a_secret() -> None:
    text = of(TEXT)
    after = text.restored(of(text.hidden.replace(f'Authorization = "{MARKER}"', 'Authorization = "new"')))
    assert after.raw["mcp"]["proxy"]["upstreams"][0]["headers"]["Authorization"] == "new"


def test_the_marker_itself_may_stand_in_a_file() -> None:
    text = of(f'[mcp.proxy]\nenable = true\npublic_url = "https://{MARKER}"\n')
    assert text.restored(of(text.hidden)).text == text.text


def test_the_values_of_unknown_keys_and_those_of_the_gateway_are_hidden() -> None:
    held = HeldSecrets([Secret("elsewhere", "from-a-variable")])
    text = FileText(
        '[mcp.proxy]\nhedders = "x"\n[other]\na = "y"\n# see from-a-variable\n', Path("f.toml"), (), held.clean_line
    )
    assert text.hidden == (f'[mcp.proxy]\nhedders = "{MARKER}"\n[other]\na = "{MARKER}"\n# see {MARKER}\n')
    assert text.restored(text.with_text(text.hidden)).text == text.text


@pytest.mark.parametrize("text", ["x", "a = [" * 3000])
def test_what_is_no_toml_is_an_error(text: str) -> None:
    with pytest.raises(ConfigError, match=r"TOML|nested"):
        of(text)
