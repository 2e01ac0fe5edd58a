"""The form of keys, and the hashes of them."""

import re
import string

import pytest
from gateway_auth_apikey.keys import UNKNOWN, Key, check_hash, hash_of, matches


def test_a_key_says_what_it_is_and_can_be_read_back():
    key = Key.new()
    text = str(key)
    assert re.fullmatch(r"rad_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}", text)
    assert Key.parse(text) == key
    assert key.secret not in repr(key)
    assert len({str(Key.new()) for _ in range(50)}) == 50


@pytest.mark.parametrize("place", [0, 4, 10, 16, 17, 30, 59, 60, 65])
def test_a_key_with_one_wrong_character_is_no_key(place):
    text = str(Key(id="abcdefABCDEF", secret="s" * 43))
    wrong = "1" if text[place] != "1" else "2"
    assert Key.parse(text[:place] + wrong + text[place + 1 :]) is None


RIGHT = str(Key(id="abcdefABCDEF", secret="s" * 43))


@pytest.mark.parametrize("text", ["", "rad_", "rad_" + "a" * 70, " " + RIGHT, RIGHT + "\n", "rad_é"])
def test_other_texts_are_no_keys(text):
    assert Key.parse(text) is None


def test_a_hash_matches_its_secret_alone_and_has_its_own_salt():
    stored = hash_of("s" * 43)
    assert matches("s" * 43, stored)
    assert not matches("s" * 42 + "t", stored)
    assert hash_of("s" * 43) != stored
    assert check_hash(stored) == stored


def test_no_secret_matches_the_hash_of_an_unknown_key_which_costs_the_same():
    assert not matches("s" * 43, UNKNOWN)
    assert UNKNOWN.split("$")[:3] == hash_of("s").split("$")[:3]


@pytest.mark.parametrize(
    "stored",
    [
        "",
        "hunter2-hunter2",
        UNKNOWN.replace("scrypt", "bcrypt"),
        UNKNOWN.replace("ln=14", "ln=0"),
        UNKNOWN.replace("ln=14", "ln=40"),
        UNKNOWN.replace("ln=14", "ln=17"),
        UNKNOWN.replace("r=8", "r=99"),
        UNKNOWN.replace("p=1", "p=99"),
        UNKNOWN.replace("p=1", "p=0"),
        UNKNOWN + "A",
        UNKNOWN[:-1] + "=",
        f"$scrypt$ln=14,r=8,p=1${'A' * 13}${'A' * 43}",
    ],
)
def test_what_is_no_hash_or_would_take_too_much_is_refused_without_being_shown(stored):
    with pytest.raises(ValueError, match="hash") as refused:
        check_hash(stored)
    assert stored == "" or stored not in str(refused.value)


def test_a_hash_with_other_parameters_within_bounds_is_compared_with_these():
    import base64
    import hashlib

    digest = hashlib.scrypt(b"secret", salt=b"0" * 16, n=1 << 10, r=4, p=2, dklen=32)
    texts = [base64.b64encode(part).decode().rstrip("=") for part in (b"0" * 16, digest)]
    stored = "$scrypt$ln=10,r=4,p=2$" + "$".join(texts)
    assert matches("secret", check_hash(stored))
    assert not matches("Secret", stored)


def test_keys_use_all_letters_and_digits():
    seen = set("".join(str(Key.new()) for _ in range(100)))
    assert seen == {*string.ascii_letters, *string.digits, "_"}
