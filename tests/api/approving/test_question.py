"""What the user sees: nothing that misleads, no secrets, and no more than fits."""

import json
import unicodedata
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway_core import Approvals, Ask, Call, Hider, Reject, hookimpl, tier_of
from gateway_core.api.approving.question import MAX_REASON, MAX_SHOWN, MAX_URI, question, visible
from gateway_core.concealing import MARKER
from gateway_core.testing import FakeUpstream, FakeUser, make_call, run_call

PATIENT = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def shown(
    arguments: Any, name: str = "wipe", *, patterns: tuple[str, ...] = (), max_shown: int = 2000, **more: Any
) -> str:
    reason, remembered = more.pop("reason", ""), more.pop("remembered", "")
    made = replace(make_call(name, **more), raw_arguments=json.dumps(arguments or {}).encode())
    effect = None if made.tool is None else tier_of(made.tool.annotations)
    hider = Hider(patterns, for_questions=True)
    return question(made, effect, reason=reason, remembered=remembered, hider=hider, max_shown=max_shown)


def test_the_question_says_server_tool_effect_and_arguments() -> None:
    text = shown({"disk": "a", "deep": {"n": [1, None, True]}}, upstreams=("one", "two"))
    assert text.splitlines() == [
        "Allow this call of a tool?",
        "",
        "Server: one or two",
        "Tool: wipe",
        "Effect: unknown; its server does not say",
        "Arguments:",
        '  disk: "a"',
        '  deep: {"n": [1, null, true]}',
    ]
    assert shown(None).splitlines()[-1] == "Arguments: none"
    assert "Effect: only reads, as its server says" in shown({}, annotations={"readOnlyHint": True})


UNSEEN = (
    "\n\r\t\0\x1b\x7f\x9b\u2028\u2029\u202e\u2066\u200b\u200d\ufeff\u00a0\u00ad\u3164\u2800"
    "\U000e0041\U000e0101\ue000\ud800"
)


@pytest.mark.parametrize("char", UNSEEN)
def test_what_a_reader_would_not_see_is_an_escape(char: str) -> None:
    hidden = visible(f"a{char}b")
    assert char not in hidden
    assert hidden.startswith("a\\")
    text = shown({f"na{char}me": f"va{char}lue", "x": [{f"k{char}": 1}]}, f"to{char}ol", upstreams=(f"up{char}",))
    assert text.count("\n") == 7, "no line but ours"
    assert char == "\n" or char not in text


def test_other_scripts_stay_as_they_are() -> None:
    assert visible("Größe 数据 🙂 ñ") == "Größe 数据 🙂 ñ"


@pytest.mark.parametrize(
    "arguments",
    [
        {"password": "hunter22"},
        {"config": {"DB_PASSWORD": "hunter22"}},
        {"headers": [{"Authorization": "hunter22"}]},
        {"clientSecret": {"value": "hunter22"}},
        {"api-key": ["hunter22"]},
        {"pin": "hunter22"},
        {"text": "login with password=hunter22 please"},
        {"text": '{"api_key": "hunter22"}'},
        {"text": "Authorization: Bearer hunter22hunter22"},
        {"text": "https://user:hunter22@example.com/"},
        {"text": "ghp_hunter22hunter22hunter22"},
        {"text": "-----BEGIN RSA PRIVATE KEY-----\nhunter22"},
        {"text": "eyJhbGciOiJIUzI1NiJ9.hunter22.hunter22"},
        {"internal_name": "hunter22"},
        {"text": "rad_AbCdEfGhIjKl_hunter22hunter22hunter22"},
        {"text": "pypi-AgEIcHlwaS5hunter22hunter22"},
        {"text": "https://hooks.slack.com/services/T0/hunter22/hunter22"},
        {"text": "https://x.blob.example.com/a?sig=hunter22hunter22"},
        {"env": [{"name": "DB_PASS", "value": "hunter22"}]},
        {"args": ["--password", "hunter22"]},
        {"smtp_pass": "hunter22"},
    ],
)
def test_secrets_are_hidden(arguments: Any) -> None:
    text = shown(arguments, patterns=("^internal_",))
    assert "hunter22" not in text
    assert MARKER in text


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_tokens": 100},
        {"password_policy": "strict"},
        {"path": "/etc/passwd"},
        {"note": "a token of thanks"},
        {"author": "me"},
        {"password": None},
        {"shipping": 1},
    ],
)
def test_what_is_no_secret_is_shown(arguments: Any) -> None:
    assert MARKER not in shown(arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"cmd": "ls # cookie: a; rm -rf /"},
        {"cmd": "ls # authorization: Basic x; rm -rf /"},
        {"cmd": "ls # passphrase: a rm -rf /"},
        {"cmd": "ls # mnemonic= rm -rf /\nrm -rf /"},
        {"cmd": "ls # token:\nrm -rf /"},
        {"cmd": "ls # token:[; rm -rf /"},
        {"cmd": "ls # token={; rm -rf /"},
        {"cmd": "ls # token='; rm -rf /"},
        {"cmd": 'ls # token="; rm -rf /'},
        {"cmd": "token='; rm -rf /'"},
        {"cmd": "ls # token=a|rm -rf /"},
        {"cmd": "ls # token=`rm -rf /`"},
        {"cmd": "ls # token=$(rm -rf /)"},
        {"cmd": "ls --token '; rm -rf /'"},
        {"cmd": "ls # internal_a: [; rm -rf /"},
        {"cmd": f"{'max_tokens=' * 1000}; rm -rf /"},
        {"cmd": "ls # -----BEGIN PRIVATE KEY-----; rm -rf /"},
        {"cmd": "ls # -----BEGIN PRIVATE KEY-----\nrm -rf /\n-----END PRIVATE KEY-----"},
        {"cmd": f"{'[' * 50_000}: ; rm -rf /{' ' * 20}"},
        {"cmd": '[[[[[["token: 1; rm -rf /"]]]]]]'},
        {"name": "token", "value": "; rm -rf /"},
        {"name": "token", "value": ["; rm -rf /"]},
        {"key": "password", "value": {"cmd": "; rm -rf /"}},
        {"args": ["--password", "x; rm -rf /"]},
    ],
)
def test_an_agent_cannot_hide_a_command_behind_the_name_of_a_secret(arguments: Any) -> None:
    assert "-rf /" in shown(arguments, patterns=("^internal_",))


@pytest.mark.parametrize("url", ["a://:;rm$IFS-rf$IFS~;@", "https://aaaaaaaaaaaaaaaaaaaa;rm$IFS-rf$IFS~;@h"])
def test_an_agent_cannot_hide_a_command_in_a_url(url: str) -> None:
    assert url in shown({"cmd": f"echo {url}"})


def test_json_in_json_in_a_text_hides_no_command() -> None:
    text = "; rm -rf /"
    for _ in range(6):
        text = json.dumps([text])
    assert "; rm -rf /" in shown({"cmd": text})


def test_a_private_key_in_a_text_is_hidden_and_what_follows_is_shown() -> None:
    lines = "\n".join(["hunter22" * 8] * 3)
    key = f"-----BEGIN PRIVATE KEY-----\n{lines}\nhunter22==\n-----END PRIVATE KEY-----"
    for written in (key, key.replace("\n", "\\n")):
        text = shown({"text": f"see {written}; rm -rf /"})
        assert f'"see {MARKER}; rm -rf /"' in text


def test_approvals_show_what_an_agent_calls_a_secret() -> None:
    verdict = Approvals().verdict(make_call("run", {"cmd": "ls # cookie: a; rm -rf /"}))
    assert isinstance(verdict, Ask)
    assert f'cmd: "ls # cookie: {MARKER}; rm -rf /"' in verdict.message


def test_long_arguments_are_cut_in_the_middle_and_the_question_says_so() -> None:
    text = shown({"sql": "SELECT " + "1, " * 5000 + "x; DROP TABLE everything", "small": 1})
    assert "SELECT" in text
    assert "DROP TABLE everything" in text
    assert "characters …" in text
    assert "small: 1" in text
    assert "too long to be shown completely" in text
    many = shown({f"name{number}": number for number in range(100)})
    assert "and 60 more" in many
    assert "too long to be shown completely" in many


def test_deep_arguments_end_somewhere() -> None:
    deep: object = 1
    for _ in range(200):
        deep = [deep]
    assert "[more levels]" in shown({"deep": deep})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=30), inner, max_size=5),
    max_leaves=20,
)


@PATIENT
@given(st.dictionaries(st.text(max_size=80), JSON, max_size=60), st.sampled_from([200, 2000, MAX_SHOWN]))
def test_every_question_can_be_asked(arguments: Any, max_shown: int) -> None:
    arguments = json.loads(json.dumps(arguments))
    text = shown(arguments, max_shown=max_shown, reason="\u202e" * MAX_REASON)
    assert len(text) <= 16_000
    for char in text:
        assert char == "\n" or char == " " or unicodedata.category(char)[0] != "C"
    verdict = Ask(text)
    text.encode()
    assert verdict.message == text


def test_the_question_about_a_prompt_and_a_resource() -> None:
    assert shown({"a": 1}, "greet", method="prompts/get", remembered="in this session").splitlines() == [
        "Allow the use of this prompt?",
        "",
        "Server: upstream",
        "Prompt: greet",
        "Arguments:",
        "  a: 1",
        "",
        "If you accept, further uses of this prompt, whatever their arguments, pass in this session.",
    ]
    assert shown({}, "file:///x", method="resources/read", remembered="for 5 seconds").splitlines() == [
        "Allow this resource to be read?",
        "",
        "Server: upstream",
        "Resource: file:///x",
        "",
        "If you accept, further reads of this resource pass for 5 seconds.",
    ]


def test_a_uri_is_shown_with_both_ends_and_without_secrets() -> None:
    long = shown({}, f"https://host.example/{'x/' * 5000}?token=hunter22&end", method="resources/read")
    assert "Resource: https://host.example/x/" in long
    assert "&end" in long
    assert "hunter22" not in long
    assert len(long) < MAX_URI + 200


def test_the_reason_of_the_operator_is_shown_on_one_line() -> None:
    assert shown({}, reason="prices\nare public").splitlines()[2:4] == [
        "Reason: prices\\u000aare public",
        "Server: upstream",
    ]


class Asks:
    """A plugin that shows as much as possible."""

    def __init__(self) -> None:
        self.approvals = Approvals()

    @hookimpl
    def before_call(self, call: Call) -> Ask | Reject | None:
        return self.approvals.verdict(call, reason="\u202e" * 5000, remember=86_400, max_shown=10**6)


async def test_the_largest_question_is_one_that_the_gateway_asks() -> None:
    arguments = {f"\u202e{number}" * 30: "\u202e" * 20_000 for number in range(80)}
    call = make_call("\u202e" * 100, arguments, upstreams=tuple(f"\u202e{n}" * 30 for n in range(30)))
    user = FakeUser()
    with pytest.raises(AssertionError, match="question 1"):
        await run_call(call, FakeUpstream(), Asks(), user=user)
    assert len(user.asked) == 1
