"""The form of a line, as text and as JSON."""

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loguru import logger

from gateway_core.log import lines

_VALUES = st.one_of(st.text(max_size=40), st.integers(), st.floats(), st.none(), st.booleans(), st.lists(st.text()))


def test_text_line_is_time_level_message_and_fields(log_to):
    written = log_to()
    logger.bind(upstream="time", calls=3).info("upstream is up")
    stamp, rest = written()[0].split(" ", 1)
    assert datetime.fromisoformat(stamp).tzinfo is not None
    assert datetime.now().astimezone() - datetime.fromisoformat(stamp) < timedelta(minutes=5)
    assert rest == "INFO    upstream is up upstream=time calls=3"


def test_json_line_is_one_object(log_to):
    written = log_to("json")
    logger.bind(upstream="time", seconds=0.5, ok=True, level="fake", inf=float("inf"), big=10**40).warning("slow")
    found = json.loads(written()[0])
    assert found.pop("time").startswith("20")
    assert found == {
        "level": "WARNING",
        "message": "slow",
        "upstream": "time",
        "seconds": 0.5,
        "ok": True,
        "level_": "fake",
        "inf": "inf",
        "big": "1" + "0" * 40,
    }


@pytest.mark.parametrize("form", ["text", "json"])
def test_strangers_cannot_begin_a_line_or_move_the_cursor(log_to, form):
    written = log_to(form)
    evil = 'x\n12:00:00 INFO forged\r\x1b[2J\u2028\u202e\x85{"level":"INFO"}\ud800'
    logger.bind(tool=evil, **{evil: 1}).info(evil)
    (line,) = written()
    assert line.isprintable()
    assert "forged" in line


@pytest.mark.parametrize("form", ["text", "json"])
def test_an_exception_is_one_field_without_values_of_variables(log_to, form):
    written = log_to(form)
    password = "hunter2-canary"
    try:
        {}["missing\nkey"] if password else None
    except KeyError:
        logger.exception("broken")
    (line,) = written()
    assert "KeyError" in line
    assert "Traceback" in line
    assert "hunter2-canary'" not in line


def test_fields_are_capped(log_to):
    written = log_to()
    logger.bind(payload="a" * 100_000).info("m" * 100_000)
    assert len(written()[0]) < 3 * lines.MAX_FIELD


def test_a_value_that_cannot_be_shown_does_not_break_the_line(log_to):
    class Broken:
        def __str__(self) -> str:
            raise ValueError("no")

    loop: list[object] = []
    loop.append(loop)
    written = log_to()
    logger.bind(a=Broken(), b={"k": Broken()}, c=loop, d="two words", e="").info("still here")
    assert 'a="<Broken: ValueError>"' in written()[0]
    assert 'd="two words" e=""' in written()[0]


@given(
    message=st.text(max_size=60),
    fields=st.dictionaries(st.sampled_from(["agent", "ms", "outcome", "upstream"]), _VALUES, max_size=4),
    form=st.sampled_from(["text", "json"]),
    when=st.floats(min_value=0, max_value=4e9),
)
def test_a_note_isrendered_as_loguru_s_record_of_the_same_would_be(message, fields, form, when):
    renderer = lines.Renderer(form, colour=False)
    record = {
        "time": datetime.fromtimestamp(when).astimezone(),
        "level": logger.level("INFO"),
        "message": message,
        "extra": fields,
        "exception": None,
    }
    ours, theirs = renderer.render(when, "INFO", message, fields), renderer(record)
    assert ours == theirs or abs(when % 1 * 1000 % 1) > 0.999, "floats may round the last millisecond up"


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("message", ["tools/call echo", "tools/call é\n=x 100%", "tools/call %s"])
def test_a_line_with_much_in_common_is_written_like_any_other(form: Any, colour: bool, message: str) -> None:
    differs = lines.Differs
    fields = {"exchange": differs.WORD, "agent": 'a "b" 5%s@::1', "ms": differs.NUMBER, "upstream": "up\x1b", "time": 1}
    members = {"method": "tools/call", "tool": 'a"%s', "principal": "p"}
    line, render = lines.Line(message, fields, members), lines.Renderer(form, colour)
    for values in (("1f", 0.1), ("2f", 12345.6789), ("0", 3600000.0)):
        assert render.line(1e9, line, values) == render.render(1e9, "INFO", message, line.filled(values), members)
