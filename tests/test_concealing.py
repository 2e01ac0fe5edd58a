"""Secrets of the gateway are hidden in all that leaves it, and nothing else changes."""

import json
import random
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_core.concealing import (
    MARKER,
    MAX_LEARNED,
    MAX_LENGTH,
    HeldSecrets,
    Secret,
    forms,
    without_pages,
)

TOKEN = "hu5hAbC9dEfGh1JkLmN0pQrS"
_LINES = ["MIIEvQIBADANBgkqhkiG9w0BAQ/EFAASC+Kc", "q8Zt1dXk3vWl0rJhYb9uPsTn7mA2+Q=="]
PEM = "\n".join(["-----BEGIN PRIVATE KEY-----", *_LINES, "-----END PRIVATE KEY-----", ""])


def held(*values: str) -> HeldSecrets:
    return HeldSecrets(Secret("a", value) for value in values)


def in_line(secrets: HeldSecrets, text: str) -> str:
    """A line of the log without those secrets."""
    return secrets.clean_line(text.encode()).decode()


def in_net(text: str) -> str:
    """The content of a JSON string as .NET writes it by default."""
    short = {"\\": "\\\\", "\n": "\\n", "\t": "\\t"}
    data = text.encode("utf-16-be")
    units = [data[at] << 8 | data[at + 1] for at in range(0, len(data), 2)]
    plain = [unit for unit in range(32, 127) if chr(unit) not in "<>&'+`\"\\"]
    return "".join(short.get(chr(unit)) or (chr(unit) if unit in plain else f"\\u{unit:04X}") for unit in units)


def messages(text: str) -> list[bytes]:
    """JSON with `text` in a string, as the encoders of several languages write it."""
    compact = json.dumps({"text": f"is {text}, so"}, ensure_ascii=False)
    ascii_only = json.dumps({"text": f"is {text}, so"})
    in_json = json.dumps({"text": json.dumps({"inner": text})})
    return [
        compact.encode(),
        ascii_only.encode(),
        compact.replace("/", "\\/").encode(),
        compact.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026").encode(),
        in_json.encode(),
        f'{{"text":"is {in_net(text)}"}}'.encode(),
        json.dumps({text: [text]}).encode(),
    ]


SECRETS = [
    TOKEN,
    'with "quotes" and \\ back/slashes',
    "pässwörd-€-😀",
    "<html>&amp;secret'd",
    "tab\tand\nnewline here",
    "5ec4e70123456789abcdef",
    "correcthorse",
    "{'a': 1, 'b': 2}",
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("way", range(7))
def test_a_secret_is_hidden_however_json_writes_it(secret, way):
    cleaned = held(secret).clean(messages(secret)[way])
    found = json.loads(cleaned)
    assert secret not in json.dumps(found, ensure_ascii=False)
    assert secret not in str(found)
    assert MARKER in str(found)


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_hidden_in_text_as_it_is_as_repr_and_percent_encoded(secret):
    for shown in (secret, secret.strip(), repr(secret), json.dumps(secret), quote(secret), quote(secret, safe="")):
        cleaned = in_line(held(secret), f"cannot use {shown}: no")
        assert secret not in cleaned
        assert MARKER in cleaned
        assert cleaned.startswith("cannot use ")
        assert cleaned.endswith(": no")


def test_a_secret_of_several_lines_is_hidden_by_line_but_not_the_lines_that_all_keys_share():
    secrets = held(PEM)
    for line in _LINES:
        assert in_line(secrets, f"x {line} y") == f"x {MARKER} y"
    assert MARKER not in in_line(secrets, "-----BEGIN PRIVATE KEY-----")
    assert json.loads(secrets.clean(json.dumps({"a": PEM}).encode())) == {"a": MARKER}


def test_white_space_around_a_secret_does_not_matter():
    assert in_line(held(f" {TOKEN}\n"), f"<{TOKEN}>") == f"<{MARKER}>"


def test_values_under_six_characters_are_not_searched_for():
    assert held("12345", "").clean(b'{"a":"12345"}') == b'{"a":"12345"}'
    assert held("123456").clean(b'{"a":"123456"}') == b'{"a":"[REDACTED]"}'
    assert forms("12345") == set()


def test_a_number_that_is_a_secret_is_hidden_and_the_message_stays_json():
    secrets = held("123456")
    data = b'{"a":123456,"b":1234567,"c":"1234567","d":[-1.5e6,true,null]}'
    assert json.loads(secrets.clean(data)) == {
        "a": MARKER,
        "b": 1234567,
        "c": f"{MARKER}7",
        "d": [-1.5e6, True, None],
    }


def test_a_secret_that_looks_like_json_does_not_break_the_message():
    secrets = held("[1,2,3,4]")
    assert secrets.clean(b'{"a":[1,2,3,4]}') == b'{"a":[1,2,3,4]}'
    assert json.loads(secrets.clean(b'{"a":"[1,2,3,4]"}')) == {"a": MARKER}


@pytest.mark.parametrize(
    ("secret", "data"),
    [
        ("n" + TOKEN, rb'{"a":"\n%b"}' % TOKEN.encode()),
        ("e9" + TOKEN, rb'{"a":"\u00e9%b"}' % TOKEN.encode()),
        ("u00e9" + TOKEN, rb'{"a":"\u00e9%b"}' % TOKEN.encode()),
        ('"' + TOKEN, rb'{"a\\":"%b"}' % TOKEN.encode()),
    ],
)
def test_a_part_of_an_escape_sequence_is_no_part_of_a_secret(secret, data):
    assert held(secret).clean(data) == data


def test_after_an_escaped_backslash_a_secret_is_hidden():
    assert held("n" + TOKEN).clean(rb'{"a":"\\n%b"}' % TOKEN.encode()) == rb'{"a":"\\[REDACTED]"}'
    assert held("e9" + TOKEN).clean(rb'{"a":"\\u00e9%b"}' % TOKEN.encode()) == rb'{"a":"\\u00[REDACTED]"}'


def test_what_holds_no_secret_is_the_same_object():
    secrets = held(TOKEN, *SECRETS)
    for data in (b"", b'{"a":"b"}', b'{"a":"%b"}' % TOKEN[:-1].encode(), b"\xff\xfe", b'{"a":"' + b"Q" * 5000 + b'"}'):
        assert secrets.clean(data) is data
    line = b"nothing to hide"
    assert secrets.clean_line(line) is line


def test_every_occurrence_is_hidden_also_beside_bytes_that_are_not_utf8():
    data = b"\xff" + TOKEN.encode() + b"\xfe \xe2" + TOKEN.encode()
    assert held(TOKEN).clean(data) == b"\xff[REDACTED]\xfe \xe2[REDACTED]"


def test_the_longest_secret_is_hidden_first():
    assert in_line(held("secret-one", "secret-one-more"), "secret-one-more!") == f"{MARKER}!"


def test_secrets_learned_at_run_time_are_hidden_and_old_ones_only_for_a_while():
    secrets = held(TOKEN)
    for number in range(MAX_LEARNED + 2):
        secrets.learn("token of x", f"Learned{number}-{TOKEN[:8]}")
    assert in_line(secrets, f"Learned{MAX_LEARNED + 1}-{TOKEN[:8]} {TOKEN}") == f"{MARKER} {MARKER}"
    assert in_line(secrets, f"Learned2-{TOKEN[:8]}") == MARKER
    assert MARKER not in in_line(secrets, f"Learned0-{TOKEN[:8]}")


def test_each_secret_of_a_source_is_reported_once():
    found = []
    secrets = HeldSecrets([Secret("env.A", TOKEN), Secret("env.B", "123456")], lambda *what: found.append(what))
    data = b'{"a":"%b","b":123456}' % TOKEN.encode()
    for source in ("files", "files", "mail", ""):
        secrets.clean(data, source)
    assert sorted(found) == [("files", "env.A"), ("files", "env.B"), ("mail", "env.A"), ("mail", "env.B")]


@pytest.mark.parametrize("size", [5_000, MAX_LENGTH - 3])
def test_a_long_secret_is_hidden(size):
    secret = random.Random(size).randbytes(size).hex()[:size]
    cleaned = held(secret).clean(b'{"a":"%b"}' % secret.encode())
    assert json.loads(cleaned)["a"].replace(MARKER, "") == ""


def test_what_is_too_large_for_one_automaton_is_hidden_all_the_same(monkeypatch):
    monkeypatch.setattr("gateway_core.concealing.MAX_MEMORY", 100_000)
    secret = random.Random(1).randbytes(20_000).hex()
    assert json.loads(held(secret).clean(b'{"a":"%b"}' % secret.encode()))["a"].replace(MARKER, "") == ""


_ALPHABET = st.sampled_from('aQZn"\\/u0e9é€😀 \n\t<123456{[,:')
_SECRETS = st.text(_ALPHABET, min_size=6, max_size=12).filter(lambda text: len(text.strip()) >= 6)


@given(st.lists(_SECRETS, min_size=1, max_size=4), st.lists(st.text(_ALPHABET, max_size=6), max_size=3), st.booleans())
def test_no_secret_stays_and_json_stays_json(secrets, others, in_ascii):
    value = [f"{other}{secret}" for secret in secrets for other in others or [""]]
    cleaned = held(*secrets).clean(json.dumps(value, ensure_ascii=in_ascii).encode())
    shown = json.loads(cleaned)
    assert not any(secret in text for secret in secrets for text in shown if secret not in MARKER)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=4)))
def test_what_has_no_secret_never_changes(value):
    data = json.dumps(value).encode()
    assert held(TOKEN, "7654321098").clean(data) is data or TOKEN in str(value) or "7654321098" in str(value)


def test_what_is_kept_has_no_address_of_a_page_where_people_act() -> None:
    token = "a-_" + "B" * 40
    asked = f'{{"url":"https://g.example/ask/{token}","b":"/ask/me","c":"/ask/{token}x"}}'.encode()
    assert without_pages(asked) == asked.replace(f'{token}"'.encode(), b'[REDACTED]"')
    line = b'{"url":"https://g.example/oauth/start/abc-DEF_123","b":"/oauth/callback"}'
    assert without_pages(line) == b'{"url":"https://g.example/oauth/start/[REDACTED]","b":"/oauth/callback"}'
    other = b"nothing"
    assert without_pages(other) is other
