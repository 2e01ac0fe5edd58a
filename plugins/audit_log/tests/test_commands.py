"""`rad mcp proxy audit`: verify, show and export."""

import csv
import io
import json
import threading

import pytest
from gateway_audit_log import reading
from gateway_audit_log.chaining import Keys, keys_of
from gateway_audit_log.commands import app
from gateway_audit_log.journal import Journal
from gateway_audit_log.reading import end_of, files_of, followed, moment_of
from typer.testing import CliRunner

FILE = """
[mcp.proxy]
enable = true

[[mcp.proxy.plugins]]
name = "audit_log"
"""


def call(number, **changes):
    return {
        "type": "call",
        "time": f"2024-05-06T12:00:{number:02d}.000Z",
        "method": "tools/call",
        "name": f"tool{number}",
        "principal": {"id": "alice|keys" if number % 2 else "bob@127.0.0.1", "verified": bool(number % 2)},
        "upstream": "files",
        "decision": "allow",
        "plugin": "",
        "rule": "",
        "outcome": "ok",
        "ms": 1.5,
        "arguments": {"bytes": 7, "digest": "d"},
        **changes,
    }


REFUSED = call(3, decision="refuse", plugin="security_policy", rule="=night", outcome="refused", upstream=None)
DENIED = {"type": "authentication", "time": "2024-05-06T12:00:04.000Z", "address": "192.0.2.1", "decision": "refuse"}


PLAIN = Keys(None, b"")


def write(path, bodies, keys=PLAIN):
    log = Journal(path, keys, max_bytes=1 << 30, max_age=None, kept=None)
    log.append(bodies)
    log.close()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mcp-proxy.toml").write_text(FILE)
    (tmp_path / "mcp-proxy.toml").chmod(0o600)
    return tmp_path


@pytest.fixture
def audit(folder):
    def run(*arguments):
        return CliRunner().invoke(app, [*arguments, "--config", str(folder / "mcp-proxy.toml")])

    return run


@pytest.fixture
def log(folder):
    write(folder / "audit.jsonl", [call(1), call(2), REFUSED, DENIED, call(5)])
    return folder / "audit.jsonl"


def test_an_intact_log(audit, log):
    found = audit("verify")
    assert found.exit_code == 0, found.output
    assert "entries 1 to 5 in 1 file; the last hash is " in found.stdout
    assert "the log is intact" in found.stdout
    assert "without key_file" in found.stderr
    shown = json.loads(audit("verify", "--json").stdout)
    assert (shown["intact"], shown["entries"], shown["findings"]) == (True, 5, [])
    assert audit("verify", "--expect", shown["hash"]).exit_code == 0
    assert audit("verify", "--expect", "0" * 64).exit_code == 1


def test_a_changed_log(audit, log):
    log.write_bytes(log.read_bytes().replace(b"tool2", b"tool9"))
    found = audit("verify")
    assert found.exit_code == 1
    assert f"{log}:2: entry 2 was changed" in found.stdout
    assert "the log was changed" in found.stdout
    assert json.loads(audit("verify", "--json").stdout)["count"] == 1


def test_the_key_of_the_configuration_is_used(audit, folder):
    key = folder / "key"
    key.write_text("k" * 64)
    key.chmod(0o600)
    config = folder / "mcp-proxy.toml"
    config.write_text(FILE + 'key_file = "key"\n')
    write(folder / "audit.jsonl", [call(1)], keys_of(key, b""))
    found = audit("verify")
    assert found.exit_code == 0, found.output
    assert "without key_file" not in found.stderr
    key.write_text("x" * 64)
    assert audit("verify").exit_code == 1
    key.unlink()
    assert "there is no such key file" in str(audit("verify").exception)


def test_without_a_file(audit, folder):
    assert "there is no such file yet" in str(audit("verify").exception)
    assert "cannot be read" in str(audit("show", str(folder / "other")).exception)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ((), ["tool1", "tool2", "tool3", None, "tool5"]),
        (("--principal", "alice*"), ["tool1", "tool3", "tool5"]),
        (("--tool", "*2"), ["tool2"]),
        (("--upstream", "files"), ["tool1", "tool2", "tool5"]),
        (("--outcome", "refused"), ["tool3"]),
        (("--decision", "refuse"), ["tool3", None]),
        (("--since", "2024-05-06T12:00:02", "--until", "2024-05-06T12:00:04+00:00"), ["tool2", "tool3"]),
        (("--since", "2024-05-06T13:00:05+01:00"), ["tool5"]),
        (("--last", "2"), [None, "tool5"]),
        (("--since", "1h"), []),
    ],
)
def test_what_is_shown(audit, log, options, names):
    found = audit("show", "--json", *options)
    assert found.exit_code == 0, found.output
    assert [json.loads(line).get("name") for line in found.stdout.splitlines()] == names


def test_the_table(audit, log):
    shown = audit("show").stdout
    assert "bob@127.0.0.1 (not verified)" in shown
    assert "refuse (security_policy: =night)" in shown


def test_without_a_match_the_command_says_so(audit, log):
    found = audit("show", "--decision", "refused")
    assert (found.exit_code, found.stderr) == (0, "no entries match\n")
    assert audit("show", "--decision", "refuse").stderr == ""
    assert audit("show", "--decision", "refused", "--json").output == ""


@pytest.mark.parametrize("option", ["--since", "--until"])
@pytest.mark.parametrize("time", ["yesterday", "5", "2026-13-01", "999999999999d"])
def test_a_wrong_time(audit, log, option, time):
    found = audit("show", option, time)
    assert found.exit_code == 2
    assert "is no time; examples: 2026-11-30T12:00, 90s" in found.stderr


def test_times_of_the_past():
    assert moment_of("0s") >= moment_of("1m") >= moment_of("2h") >= moment_of("3d")


def test_an_export_as_csv_runs_no_formula(audit, log, folder):
    to = folder / "out.csv"
    found = audit("export", "--format", "csv", "-o", str(to))
    assert found.exit_code == 0, found.output
    assert "5 entries were exported" in found.stderr
    assert to.stat().st_mode & 0o777 == 0o600
    rows = list(csv.DictReader(io.StringIO(to.read_text())))
    assert [row["name"] for row in rows] == ["tool1", "tool2", "tool3", "", "tool5"]
    assert (rows[2]["rule"], rows[2]["decision"], rows[3]["address"]) == ("'=night", "refuse", "192.0.2.1")
    assert "exists already" in str(audit("export", "-o", str(to)).exception)


def test_an_export_as_json_lines(audit, log):
    found = audit("export", "--decision", "refuse")
    assert [json.loads(line)["decision"] for line in found.stdout.splitlines()] == ["refuse"] * 2
    assert audit("export", "--format", "xml").exit_code == 2


def test_older_files_are_read_too(audit, folder):
    path = folder / "audit.jsonl"
    log = Journal(path, PLAIN, max_bytes=64 * 1024, max_age=None, kept=None)
    for _ in range(3):
        log.append([call(1, name="x" * 1000)] * 100)
    log.close()
    assert len(files_of(path)) > 1
    assert len(audit("show", "--json", "--last", "1000").stdout.splitlines()) == 300
    assert "entries 1 to 300 in" in audit("verify").stdout
    assert "entries 1 to 300 in" not in audit("verify", str(files_of(path)[0])).stdout


def test_entries_are_followed_also_into_the_next_file(folder, monkeypatch):
    monkeypatch.setattr(reading, "POLL", 0.02)
    path = folder / "audit.jsonl"
    log = Journal(path, PLAIN, max_bytes=64 * 1024, max_age=None, kept=None)
    log.append([call(1)])
    log.append([call(2)])
    with path.open("ab") as file:
        file.write(b'{"seq":')  # a half line, which the entry that follows ends
    seen, at = [], end_of(path)
    done = threading.Event()

    def follow():
        for entry in followed(path, at, after=1):
            seen.append(entry["seq"])
            if len(seen) == 200:
                done.set()
                return

    log.close()
    log = Journal(path, PLAIN, max_bytes=64 * 1024, max_age=None, kept=None)
    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    for _ in range(200):
        log.append([call(1, name="x" * 1000)])
        done.wait(0.005)
    assert done.wait(20)
    log.close()
    assert len(files_of(path)) > 1
    assert seen == list(range(3, 203))


def test_a_call_is_found_by_every_name_of_its_tool(folder, audit):
    served = {"kind": "tool", "upstreams": ["github"], "original": "delete_repo", "tool": "gh__delete_repo"}
    write(folder / "audit.jsonl", [call(1, name="github:delete_repo", served=served), call(2)])
    for glob in ("github:*", "gh__delete_*", "delete_*"):
        found = [json.loads(line) for line in audit("show", "--tool", glob, "--json").stdout.splitlines()]
        assert [one["name"] for one in found] == ["github:delete_repo"], glob
