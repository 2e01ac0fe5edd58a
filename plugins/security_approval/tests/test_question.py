"""What the user sees: nothing that misleads, no secrets, and no more than fits."""

import json
import unicodedata

import pytest
from gateway_security_approval.hiding import HIDDEN, Hider
from gateway_security_approval.plugin import Approval
from gateway_security_approval.question import MAX_SHOWN, question, visible
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway_core import Ask, tier_of
from gateway_core.testing import FakeUpstream, FakeUser, configured, make_call, run_call

PATIENT = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def shown(arguments, name="wipe", *, patterns=(), max_shown=2000, **call):
    made = replace(make_call(name, **call), raw_arguments=json.dumps(arguments or {}).encode())
    return question(made, tier_of(made.tool.annotations), remembered="", hider=Hider(patterns), max_shown=max_shown)


def test_the_question_says_server_tool_effect_and_arguments():
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
def test_what_a_reader_would_not_see_is_an_escape(char):
    hidden = visible(f"a{char}b")
    assert char not in hidden
    assert hidden.startswith("a\\")
    text = shown({f"na{char}me": f"va{char}lue", "x": [{f"k{char}": 1}]}, f"to{char}ol", upstreams=(f"up{char}",))
    assert text.count("\n") == 7, "no line but ours"
    assert char == "\n" or char not in text


def test_other_scripts_stay_as_they_are():
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
    ],
)
def test_secrets_are_hidden(arguments):
    text = shown(arguments, patterns=("^internal_",))
    assert "hunter22" not in text
    assert HIDDEN in text


@pytest.mark.parametrize(
    "arguments",
    [{"path": "/etc/passwd"}, {"note": "a token of thanks"}, {"author": "me"}, {"password": None}, {"shipping": 1}],
)
def test_what_is_no_secret_is_shown(arguments):
    assert HIDDEN not in shown(arguments)


def test_long_arguments_are_cut_in_the_middle_and_the_question_says_so():
    text = shown({"sql": "SELECT " + "1, " * 5000 + "x; DROP TABLE everything", "small": 1})
    assert "SELECT" in text
    assert "DROP TABLE everything" in text
    assert "characters …" in text
    assert "small: 1" in text
    assert "too long to be shown completely" in text
    many = shown({f"name{number}": number for number in range(100)})
    assert "and 60 more" in many
    assert "too long to be shown completely" in many


def test_deep_arguments_end_somewhere():
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
def test_every_question_can_be_asked(arguments, max_shown):
    arguments = json.loads(json.dumps(arguments))
    text = shown(arguments, max_shown=max_shown)
    assert len(text) <= 16_000
    for char in text:
        assert char == "\n" or char == " " or unicodedata.category(char)[0] != "C"
    verdict = Ask(text)
    text.encode()
    assert verdict.message == text


async def test_the_largest_question_is_one_that_the_gateway_asks():
    arguments = {f"\u202e{number}" * 30: "\u202e" * 20_000 for number in range(80)}
    call = make_call("\u202e" * 100, arguments, upstreams=tuple(f"\u202e{n}" * 30 for n in range(30)))
    user = FakeUser()
    plugin = configured(Approval, max_shown=MAX_SHOWN)
    with pytest.raises(AssertionError, match="question 1"):
        await run_call(call, FakeUpstream(), plugin, user=user)
    assert len(user.asked) == 1
