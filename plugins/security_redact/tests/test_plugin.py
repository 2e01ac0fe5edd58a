"""`security_redact`: payloads in the log, secrets in none."""

import asyncio
import json
import re
import sys
import threading

import pytest
from gateway_security_redact import plugin
from gateway_security_redact.background import SearchThread
from gateway_security_redact.plugin import Redact
from hypothesis import given, settings
from hypothesis import strategies as st
from loguru import logger
from msgspec.structs import replace
from pydantic import ValidationError

from gateway_core import Call, CallResult, Hider, Known, Principal, RpcError
from gateway_core.testing import FakeUpstream, configured, make_call, make_result, run_call, run_hook


@pytest.fixture
def lines():
    """The log, without the gateway's own access line of each call."""
    seen = []

    def keep(message):
        text = message.record["message"]
        if not text.startswith("tools/call "):
            seen.append(text)

    handler = logger.add(keep, level="INFO", format="{message}")
    yield seen
    logger.remove(handler)


def redactor(**settings):
    return configured(Redact, **settings).instance


def logged_request(lines, arguments, **settings):
    raw = json.dumps(arguments, separators=(",", ":"), ensure_ascii=False).encode(errors="backslashreplace")
    run_hook(redactor(**settings), "before_call", replace(make_call(), raw_arguments=raw))
    (line,) = lines
    return line


def logged_response(lines, result, **settings):
    run_hook(redactor(**settings), "after_call", make_call(), result)
    (line,) = lines
    return line


def test_values_of_named_keys_are_hidden_in_the_request(lines):
    line = logged_request(lines, {"api_key": "secret123", "password": "mypass", "city": "Oslo"})
    assert line == 'request tools/call echo {"api_key":"[REDACTED]","password":"[REDACTED]","city":"Oslo"}'


@pytest.mark.parametrize("key", ["apikey", "API-Key", "my_api_key_2", "Password", "access_token", "tokens"])
def test_a_pattern_names_a_part_of_a_key_in_any_case(lines, key):
    assert "hush" not in logged_request(lines, {key: "hush"})


def test_the_default_patterns_have_the_exceptions_of_the_builtin_names(lines):
    assert logged_request(lines, {"max_tokens": 9}) == 'request tools/call echo {"max_tokens":9}'
    lines.clear()
    assert "REDACTED" in logged_request(lines, {"max_tokens": 9}, builtin=False)


@pytest.mark.parametrize("value", [{"deep": ["hush"]}, ["hush"], 424242, True])
def test_the_whole_value_is_hidden_whatever_it_is(lines, value):
    assert logged_request(lines, {"a": [{"token": value}]}) == 'request tools/call echo {"a":[{"token":"[REDACTED]"}]}'


@pytest.mark.parametrize(
    "text",
    [
        "password=hush",
        "password: hush",
        "Password = 'hush hush'",
        "https://host/?a=1&api_key=hush&b=2",
        '"api_key": "hush \\" hush"',
        "Authorization-Token: Bearer hush",
        'text before {"password": "hush"} and after',
        '{"password": "hush", "password": "hush"}',
        '{"a": {"password": "hush"}, "a": 1}',
        '{"broken": 1, "password": ["hush", "hush"',
        '\\"password\\": \\"hush\\"',
        '"password": "hush without an end',
        "token => hush",
        "\ud800 password=hush",
        "\x00password=hush",
    ],
)
def test_values_are_hidden_inside_strings(lines, text):
    line = logged_request(lines, {"note": text})
    assert "hush" not in line
    assert "[REDACTED]" in line


def test_text_around_a_hidden_value_stays(lines):
    assert "/?a=1&api_key=[REDACTED]&b=2" in logged_request(lines, {"url": "/?a=1&api_key=hush&b=2"})


@pytest.mark.parametrize("levels", range(1, 9))
def test_json_inside_strings_is_read_and_what_is_too_deep_is_hidden(lines, levels):
    value = {"password": "hush"}
    for _ in range(levels):
        value = {"body": json.dumps(value)}
    assert "hush" not in logged_request(lines, value)


def test_json_in_strings_is_not_read_without_end(lines):
    value = "no secret"
    for _ in range(10):
        value = json.dumps({"body": value})
    line = logged_request(lines, {"body": value})
    assert "no secret" not in line
    assert "[REDACTED]" in line


def test_json_inside_a_string_stays_json(lines):
    line = logged_request(lines, {"body": '{"password": "hush", "n": 1}'})
    body = json.loads(line.removeprefix("request tools/call echo "))["body"]
    assert json.loads(body) == {"password": "[REDACTED]", "n": 1}


def test_name_and_value_pairs_are_hidden(lines):
    line = logged_request(lines, {"headers": [{"name": "X-Api-Key", "value": "hush"}, {"name": "A", "value": "b"}]})
    assert "hush" not in line
    assert '"value":"b"' in line


def test_secrets_in_keys_and_in_the_name_are_hidden(lines):
    call = make_call("https://host/?token=hush", {"password=hush": 1}, method="resources/read")
    run_hook(redactor(), "before_call", call)
    assert "hush" not in lines[0]


def test_without_the_builtin_set_own_patterns_replace_the_default_ones(lines):
    line = logged_request(lines, {"pin": "hush", "spin": "x", "password": "y"}, patterns=["^pin$"], builtin=False)
    assert line.endswith('{"pin":"[REDACTED]","spin":"x","password":"y"}')


def test_without_patterns_and_the_builtin_set_nothing_is_hidden(lines):
    line = logged_request(lines, {"password": "x=1"}, patterns=[], builtin=False)
    assert line.endswith('{"password":"x=1"}')


@pytest.mark.parametrize(
    ("pattern", "why"),
    [("(open", "not valid RE2"), (r"(a)\1", "not valid RE2"), (".*", "everything"), ("", "everything")],
)
def test_a_bad_pattern_is_a_settings_error(pattern, why):
    with pytest.raises(ValidationError, match=why):
        configured(Redact, patterns=["password", pattern])


def test_a_pattern_that_makes_other_engines_backtrack_is_quick(lines):
    line = logged_request(lines, {"note": "a" * 30_000 + "!"}, patterns=["(a+)+b"])
    assert "[cut, " in line


def test_the_response_is_logged_with_its_outcome(lines):
    line = logged_response(lines, make_result('{"password": "hush"}', is_error=True))
    assert line.startswith('response tools/call echo tool_error {"content":[{"type":"text","text":')
    assert "hush" not in line


def test_errors_are_logged_without_secrets(lines):
    error = RpcError(-32602, "cannot use password=hush", {"given": {"password": "hush"}})
    assert logged_response(lines, CallResult.failed(error)) == (
        "response tools/call echo error -32602 cannot use password=[REDACTED]"
    )


def test_what_is_switched_off_is_not_logged(lines):
    quiet = redactor(log_requests=False, log_responses=False)
    run_hook(quiet, "before_call", make_call(arguments={"a": 1}))
    assert run_hook(quiet, "after_call", make_call(), make_result()) is None
    assert lines == []


@pytest.fixture
def looks(monkeypatch):
    """How often a payload was decoded, while the log takes nothing below WARNING."""
    seen = []
    decoded = plugin._decoded
    monkeypatch.setattr(plugin, "_decoded", lambda raw: (seen.append(raw), decoded(raw))[1])
    monkeypatch.setattr(Hider, "text", lambda self, text, level=0: (seen.append(text), text)[1])
    logger.remove()
    handler = logger.add(lambda message: None, level="WARNING")
    yield seen
    logger.remove(handler)
    logger.add(sys.stderr)


async def test_nothing_is_looked_at_for_lines_that_the_log_leaves_out(looks):
    await run_call(make_call(arguments={"a": "b=c"}), FakeUpstream("a=b"), Redact)
    await run_call(make_call(), FakeUpstream(RpcError(-1, "a=b", {"c": "d"})), Redact)
    assert looks == []


async def test_results_that_must_be_clean_are_looked_at_whatever_the_log_takes(looks):
    result = make_result("token=b")
    await run_call(make_call(arguments={"a": 1}), FakeUpstream(result), configured(Redact, redact_results=True))
    assert looks.count(result.raw) == 1


async def test_a_result_is_looked_at_once_for_the_log_and_the_agent(looks, lines):
    result = make_result("token=b")
    await run_call(make_call(), FakeUpstream(result), configured(Redact, redact_results=True, log_requests=False))
    assert looks.count(result.raw) == 1
    assert len(lines) == 1


async def test_agent_and_upstream_get_what_was_sent(lines):
    upstream = FakeUpstream('{"token": "for the agent"}')
    call = make_call(arguments={"password": "for the upstream"})
    result = await run_call(call, upstream, Redact)
    assert upstream.calls[0] is call
    assert upstream.calls[0].raw_arguments == b'{"password":"for the upstream"}'
    assert b"for the agent" in result.raw
    assert len(lines) == 2
    assert not any("for the" in line for line in lines)


async def test_redact_results_hides_from_the_agent_too(lines):
    content = {
        "content": [{"type": "text", "text": '{"token": "hush", "n": 1}'}],
        "structuredContent": {"token": "hush", "n": 12345678901234567890123},
    }
    upstream = FakeUpstream(CallResult.of(content))
    result = await run_call(make_call(), upstream, configured(Redact, redact_results=True, log_responses=False))
    assert json.loads(result.raw) == {
        "content": [{"type": "text", "text": '{"token": "[REDACTED]", "n": 1}'}],
        "structuredContent": {"token": "[REDACTED]", "n": 12345678901234567890123},
    }


async def test_redact_results_hides_in_errors_too():
    upstream = FakeUpstream(RpcError(-32602, "bad token=hush", {"token": "hush"}))
    result = await run_call(make_call(), upstream, configured(Redact, redact_results=True))
    assert (result.error.message, result.error.data) == ("bad token=[REDACTED]", {"token": "[REDACTED]"})
    assert (await run_call(make_call(), upstream, Redact)).error is upstream.answer


async def test_a_clean_result_keeps_its_bytes():
    clean = CallResult(raw=b'{"content": [ ], "n": 1.10}', upstream="upstream")
    assert await run_call(make_call(), FakeUpstream(clean), configured(Redact, redact_results=True)) is clean


@pytest.mark.parametrize(
    "raw",
    [
        b'{"password": "hush"',
        b'{"a": "' + b"x" * plugin.MAX_SCANNED + b'"}',
        b'{"a":{"note":"password=hush","note":"x"}}',  # readers differ in which of the two counts
        b'{"a":{"b":"token=c","b":1e15}}',  # as long as what would be written of it
    ],
)
async def test_what_cannot_be_searched_is_withheld_if_it_must_be_clean(lines, raw):
    unreadable = CallResult(raw=raw, upstream="upstream")
    result = await run_call(make_call(), FakeUpstream(unreadable), configured(Redact, redact_results=True))
    assert result.error is not None
    assert "the call was executed" in result.error.message
    assert run_hook(Redact, "after_call", make_call(), unreadable) is None


async def test_large_results_are_searched_in_a_thread():
    text = "max_tokens=5 " * 2000
    result = await run_call(make_call(), FakeUpstream(f"{text}token=hush"), configured(Redact, redact_results=True))
    assert b"hush" not in result.raw
    assert b"max_tokens=5" in result.raw


@pytest.mark.parametrize("answer", [make_result("max_tokens=5 " * 2000), RpcError(-1, "a=b " * 10_000)])
async def test_the_loop_goes_on_while_a_large_result_is_searched(monkeypatch, answer):
    begun, going_on, threads = threading.Event(), threading.Event(), []

    def text(self, text, level=0):
        threads.append(threading.current_thread())
        begun.set()
        assert going_on.wait(20), "the loop waits for the search"
        return text

    settings = {"redact_results": True, "log_requests": False, "log_responses": False}
    redact = configured(Redact, **settings)
    monkeypatch.setattr(Hider, "text", text)
    call = asyncio.ensure_future(run_call(make_call(), FakeUpstream(answer), redact))
    assert await asyncio.to_thread(begun.wait, 20)
    going_on.set()
    await call
    assert threading.main_thread() not in threads


async def test_small_results_are_searched_at_once(monkeypatch):
    monkeypatch.setattr(SearchThread, "run", None)
    result = await run_call(make_call(), FakeUpstream("token=hush"), configured(Redact, redact_results=True))
    assert b"hush" not in result.raw


async def test_a_result_whose_search_takes_too_long_is_withheld(monkeypatch):
    async def run(self, address, search):
        raise TimeoutError

    monkeypatch.setattr(SearchThread, "run", run)
    answer = make_result("token=hush " * 3000)
    result = await run_call(make_call(), FakeUpstream(answer), configured(Redact, redact_results=True))
    assert "not done within 4 s" in result.error.message
    assert "the call was executed" in result.error.message


async def test_an_error_that_is_too_large_to_search_is_withheld():
    answer = RpcError(-1, "token=hush", {"a": "x" * plugin.MAX_SCANNED})
    result = await run_call(make_call(), FakeUpstream(answer), configured(Redact, redact_results=True))
    assert "withheld" in result.error.message
    assert "hush" not in str(result.error)


async def test_a_large_message_of_an_error_is_not_logged(lines, monkeypatch):
    monkeypatch.setattr(Hider, "text", lambda self, text, level=0: text if len(text) < 100 else 1 / 0)
    size = plugin.MAX_LOGGED + 1
    await run_call(make_call(), FakeUpstream(RpcError(-1, "x" * size)), Redact)
    assert lines[-1] == f"response tools/call echo error -1 [{size} characters, not logged]"


def test_large_payloads_are_cut_and_say_so(lines):
    line = logged_request(lines, {"note": "é" * 3000}, max_logged_bytes=1001)
    assert line.endswith(" [cut, 6011 bytes in all]")
    assert len(line.encode()) < 1100


@pytest.mark.parametrize("rate", [0.5, 0.02])
def test_a_share_of_the_calls_is_logged_each_with_its_answer(lines, rate):
    plugin = redactor(sample_rate=rate)
    for number in range(3000):
        call = replace(make_call(arguments={"n": number}), exchange_id=f"5eed{number:x}")
        run_hook(plugin, "before_call", call)
        answer = CallResult.failed(RpcError(-1, f"n {number}")) if number % 3 else make_result(f"n {number}")
        run_hook(plugin, "after_call", call, answer)
    asked = [line.rpartition(":")[2][:-1] for line in lines[::2]]
    answered = [re.search(r"n (\d+)", line)[1] for line in lines[1::2]]
    assert asked == answered
    assert 0.7 * rate < len(asked) / 3000 < 1.3 * rate


async def test_what_is_not_logged_is_clean_all_the_same(lines):
    plugin = configured(Redact, redact_results=True, sample_rate=1e-9)
    result = await run_call(make_call(), FakeUpstream("password=hush"), plugin)
    assert b"hush" not in result.raw
    assert lines == []


@pytest.mark.parametrize("rate", [0, -0.1, 1.1, float("nan")])
def test_a_share_is_more_than_nothing_and_at_most_all(rate):
    with pytest.raises(ValidationError, match="sample_rate"):
        configured(Redact, sample_rate=rate)


def test_payloads_that_are_too_large_to_search_are_not_logged(lines):
    line = logged_request(lines, {"note": "x" * plugin.MAX_LOGGED})
    assert line == f"request tools/call echo [{plugin.MAX_LOGGED + 11} bytes, not logged]"


@pytest.mark.parametrize(
    "raw",
    [
        b'{"password": "hush"',
        b'{"a":"token=hush","a":1}',
        b"\xff",
        b'{"\\n": ' + b"1" * 5000 + b"}",
        b'["\\n"' + b"[" * 30_000,
    ],
)
def test_unreadable_arguments_are_not_logged(lines, raw):
    call = Call("tools/call", "echo", Principal("agent"), "modern", "exchange", raw_arguments=raw)
    run_hook(redactor(), "before_call", call)
    assert lines == [f"request tools/call echo [unparsable, {len(raw)} bytes]"]


async def test_a_payload_in_which_no_key_stands_is_logged_as_it_came(looks, lines):
    call = replace(make_call(), raw_arguments='{ "Stadt": "Köln: a=b", "n": 1.10 }'.encode())
    result = make_result("c=d")
    await run_call(call, FakeUpstream(result), configured(Redact, redact_results=True))
    assert lines[0] == 'request tools/call echo { "Stadt": "Köln: a=b", "n": 1.10 }'
    assert lines[1] == f"response tools/call echo ok {result.raw.decode()}"
    assert [seen for seen in looks if "=" in str(seen)] == []


def _texts(words):
    return st.lists(st.sampled_from(words), max_size=3).map("".join)


_WORDS = [
    "token",
    "TOKEN",
    "to\u212aen",
    "tok",
    "en",
    "pin",
    "a.b",
    "=",
    ": ",
    '"',
    "'",
    "{",
    "}",
    "[",
    ",",
    " ",
    "é",
    "x",
]
_PATTERNS = [
    "token",
    "^pin$",
    "^pin",
    "to.en",
    r"a\.b",
    "(?i:x)é",
    r"\bpin",
    r"tok\b",
    "[^a-z]pin",
    "pin$|x",
    r"\Qa.b\E",
]
_JSON_VALUES = st.recursive(
    st.one_of(_texts(_WORDS), st.integers(), st.none()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(_texts(_WORDS), st.sampled_from(["name", "key", "value"])), inner, max_size=3),
    ),
    max_leaves=8,
)


@settings(max_examples=1000)
@given(_JSON_VALUES, st.lists(st.sampled_from(_PATTERNS), min_size=1, max_size=2), st.booleans())
def test_what_is_cleared_holds_nothing_to_hide(value, patterns, ascii_only):
    hider = Hider(patterns, builtin=False)
    raw = json.dumps(value, ensure_ascii=ascii_only).encode()
    if hider.clears(raw):
        assert hider.value(value) is value


@pytest.mark.parametrize(
    ("patterns", "text", "cleared"),
    [
        (["token"], '{"a": "b"}', True),
        (["token"], '{"a": "b\\n"}', False),  # a word may hide behind an escape
        (["token"], '{"a": "tokens"}', False),
        (["^pin$"], '{"spin": 1}', False),  # not a key of that name, but to be looked at
        (["^pin$"], '{"a": 1}', True),
        ([r"\bpin"], '{"a": 1}', False),
        (["a^|token"], '{"a": 1}', False),
        ([], '{"token": 1}', True),
    ],
)
def test_what_is_cleared_at_a_glance(patterns, text, cleared):
    assert Hider(patterns, builtin=False).clears(text.encode()) is cleared


def test_a_payload_cannot_break_its_line_or_format_it(lines):
    line = logged_request(lines, {"note": "\u2028\x1b[31m\x7f {0} {} {payload} \n end"})
    assert line.isprintable()
    assert "{0} {} {payload}" in line


def test_records_carry_the_exchange():
    seen = []
    handler = logger.add(lambda message: seen.append(message.record["extra"]), level="INFO")
    run_hook(redactor(), "before_call", make_call(arguments={}))
    logger.remove(handler)
    assert seen == [{"exchange": "exchange", "generation": 1}]


def test_what_an_agent_goes_on_with_is_in_no_log(lines):
    call = replace(make_call("sealed-id", method="tasks/get"))
    run_hook(redactor(), "before_call", call)
    asked = {"resultType": "input_required", "requestState": "sealed-state"}
    run_hook(redactor(), "after_call", call, CallResult.of({"taskId": "sealed-id", "status": "working"}))
    run_hook(redactor(), "after_call", make_call(), CallResult.of(asked))
    assert not [line for line in lines if "sealed" in line]
    assert len(lines) == 3


def test_what_an_agent_goes_on_with_reaches_it_whatever_is_hidden():
    state = CallResult.of({"resultType": "input_required", "requestState": "sealed-state"})
    assert run_hook(redactor(redact_results=True), "after_call", make_call(), state) is None


@pytest.mark.parametrize("name", ["sample_rate", "max_logged_bytes"])
def test_a_setting_of_the_log_is_an_error_if_nothing_is_logged(name):
    value = {"sample_rate": 1.0, "max_logged_bytes": 4096}[name]
    silent = {"log_requests": False, "log_responses": False}
    with pytest.raises(ValidationError, match=f"{name} has no effect"):
        configured(Redact, **silent, redact_results=True, **{name: value})
    configured(Redact, log_requests=False, **{name: value})


def test_what_would_be_hidden_is_noted_if_there_is_nothing_to_hide_it_in():
    silent = {"log_requests": False, "log_responses": False}

    def noted(**settings):
        return [note.setting for note in redactor(**settings).notes(Known(frozenset()))]

    assert noted(**silent, builtin=False, patterns=["pin"]) == ["builtin", "patterns"]
    assert noted(**silent, patterns=list(plugin.DEFAULT_PATTERNS)) == [], "the short forms of the file give these"
    assert noted(**silent, redact_results=True, patterns=["pin"]) == []
    assert noted(patterns=["pin"]) == []
