"""What is kept of a child's stderr is little, readable, and without secrets."""

import time
from collections.abc import Iterator

import pytest
from loguru import logger

from gateway_core.upstream.concealing import Concealer
from gateway_core.upstream.process.stderr import StderrTail


@pytest.fixture
def records() -> Iterator[list[dict]]:
    found: list[dict] = []
    sink = logger.add(lambda message: found.append(message.record["extra"]), level="DEBUG")
    yield found
    logger.remove(sink)


async def test_the_last_line_is_found_however_the_bytes_are_split() -> None:
    text = "first\n\nsécond\nthe end".encode()
    for cut in range(len(text)):
        tail = StderrTail("server", Concealer(()))
        tail.feed(text[:cut])
        tail.feed(text[cut:])
        assert tail.last == "the end"
        tail.feed(b"\n")
        assert tail.last == "the end"
        assert list(tail._lines) == ["first", "sécond", "the end"]


NODE = """
/srv/server.js:1
throw new Error("cannot open the database");
^

Error: cannot open the database
    at Object.<anonymous> (/srv/server.js:1:7)
    at node:internal/main/run_main_module:28:49 {
  code: 'SQLITE_CANTOPEN',
  errno: 14,
}

Node.js v20.20.2
"""
NODE_MODULE = """
Error: Cannot find module 'no-such-module'
Require stack:
- /srv/server.js
    at Module._resolveFilename (node:internal/modules/cjs/loader:1225:15) {
  code: 'MODULE_NOT_FOUND',
  requireStack: [ '/srv/server.js' ]
}

Node.js v20.20.2
"""
JAVA = """
Exception in thread "main" java.lang.IllegalStateException: no database
\tat org.example.Server.main(Server.java:7)
\t... 3 more
"""
RUST = """
thread 'main' panicked at src/main.rs:2:5: no database
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace
"""
GO = """
panic: no database

goroutine 1 [running]:
main.open(0x1, {0x4b2f, 0x2})
\t/srv/main.go:9 +0x1d
main.main()
\t/srv/main.go:4 +0x18
exit status 2
"""
NPM = """
npm error code E404
npm error 404 Not Found - GET https://example.test/no-such-package
npm error A complete log of this run can be found in: /home/me/.npm/_logs/2026-01-02T03_04_05_678Z-debug-0.log
"""
PYTHON = """
Traceback (most recent call last):
  File "server.py", line 1, in <module>
ValueError('no database')
"""

DOCKER = """
Status: starting
docker: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?

Run 'docker run --help' for more information
"""
SEE = """
fatal: no database
See https://example.test/setup
usage: server [--port N]
"""
QUIET_HINT = """
Starting
Run 'server --help' for more information
"""
AFTERWARDS = """
error: the cache is empty, which is fine
no database
"""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            DOCKER,
            "docker: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
        ),
        (SEE, "fatal: no database"),
        (QUIET_HINT, "Run 'server --help' for more information"),
        (AFTERWARDS, "no database"),
        (NODE, "Error: cannot open the database"),
        (NODE_MODULE, "Error: Cannot find module 'no-such-module'"),
        (JAVA, 'Exception in thread "main" java.lang.IllegalStateException: no database'),
        (RUST, "thread 'main' panicked at src/main.rs:2:5: no database"),
        (GO, "panic: no database"),
        (NPM, "npm error 404 Not Found - GET https://example.test/no-such-package"),
        (PYTHON, "ValueError('no database')"),
        ("}\n", "}"),
    ],
)
async def test_the_last_words_name_the_error_and_not_what_a_runtime_adds(text: str, line: str) -> None:
    tail = StderrTail("server", Concealer(()))
    tail.feed(text.encode())
    assert tail.last == line


async def test_secrets_are_hidden_longest_first_and_short_values_are_not() -> None:
    tail = StderrTail("server", Concealer(["hushed", "hushed-long", "1", ""]))
    tail.feed(b"a hushed-long and a hushed at 1\n")
    assert tail.last == "a [REDACTED] and a [REDACTED] at 1"


async def test_lines_are_cut_and_control_characters_escaped() -> None:
    tail = StderrTail("server", Concealer(()))
    tail.feed(b"\x1b[2J\xff\r\n")
    assert tail.last == "\\x1b[2J\ufffd"
    tail.feed(b"x" * 10_000_000)
    tail.feed(b"y\n")
    assert tail.last == "x" * StderrTail.LENGTH


async def test_a_flood_is_cheap_and_only_a_few_lines_of_it_are_logged(records: list[dict]) -> None:
    tail = StderrTail("server", Concealer(["secret"]))
    used = time.process_time()
    for _ in range(160):
        tail.feed(b"secret line\n" * 5000)
    assert time.process_time() - used < 3
    assert 0 < len(records) <= StderrTail.PER_SECOND * 5
    assert {record["line"] for record in records} == {"[REDACTED] line"}
    assert len(tail.lines) == StderrTail.KEPT


async def test_a_secret_over_two_lines_is_hidden(records: list[dict]) -> None:
    tail = StderrTail("server", Concealer(["ghp_hu5hAbC9dEfGh1JkLmN0pQ", "tiny-12345"]))
    tail.feed(b"token: ghp_hu5hAbC\n9dEfGh1JkLmN0pQ, and tiny-\n12345 is bad\n")
    assert [record["line"] for record in records] == ["token: [REDACTED]", "[REDACTED], and tiny-", "[REDACTED] is bad"]
