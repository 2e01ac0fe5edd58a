"""`fuzz/`: every check over its corpus of past finds and odd inputs, and over inputs that are made from them.

`RADIUM_FUZZ` sets the number of made inputs for each check.
"""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.checks import CHECKS, CORPUS

EXAMPLES = int(os.environ.get("RADIUM_FUZZ", "2000" if os.environ.get("CI") else "300"))
ENTRIES = sorted(CORPUS.glob("*/*"))
PIECES = st.sampled_from(
    [
        *(b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\\u0061", b"\\ud83d", b"null", b"1", b"-", b"1e9", b"{}"),
        *(b"\n", b"\r", b"\r\n", b" ", b"\t", b"\0", b"\xff", b"\xc3\xa9", b"\xef\xbb\xbf", b"\xc5\xbf", b"\x7f"),
        *(b"data:", b"id:", b"retry:", b"Content-Length: 1\r\n", b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
        *(b'"jsonrpc":"2.0"', b'"id":1', b'"method":"x"', b'"params":', b'"result":{}', b'"error":', b'"_meta":'),
        *(b"[[mcp.proxy.upstreams]]\n", b"= ", b"'", b"${HOME}", b"x" * 70, b"/", b"?", b"@", b"#", b"=?base64?"),
    ]
)


def test_every_check_has_a_corpus_and_every_corpus_a_check() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} == CHECKS.keys()
    assert {entry.parent.name for entry in ENTRIES} == CHECKS.keys()


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry.parent.name}/{entry.name}")
def test_the_corpus_breaks_no_check(entry: Path) -> None:
    CHECKS[entry.parent.name](entry.read_bytes())


@st.composite
def changed(draw: st.DrawFn, check: str) -> bytes:
    """An entry of a check's corpus with a few places replaced, or any bytes."""
    own = [entry.read_bytes() for entry in ENTRIES if entry.parent.name == check]
    data = bytearray(draw(st.sampled_from(own) | st.binary(max_size=80)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 6))] = draw(PIECES | st.binary(max_size=3))
    return bytes(data)


@pytest.mark.parametrize("check", CHECKS)
def test_no_input_breaks_a_check(check: str) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(data=changed(check))
    def hold(data: bytes) -> None:
        CHECKS[check](data)

    hold()
