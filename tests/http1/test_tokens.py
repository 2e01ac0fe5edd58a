"""Names of headers."""

import re
import string

import pytest

from gateway_core.http1.tokens import TOKEN, is_token


@pytest.mark.parametrize("text", ["X-Api-Key", "a", "x_y.z", "!#$%&'*+-.^_`|~"])
def test_a_token_may_be_a_name(text: str) -> None:
    assert is_token(text)


@pytest.mark.parametrize("text", ["", "a b", "a:", "a\n", "é", 'a"', "a/b", "(a)", "a\0"])
def test_other_texts_may_not(text: str) -> None:
    assert not is_token(text)


def test_these_are_the_characters_of_the_standard() -> None:
    delimiters = '"(),/:;<=>?@[\\]{}'
    allowed = {char for char in map(chr, range(256)) if re.fullmatch(TOKEN, char)}
    assert allowed == {char for char in string.printable if "!" <= char <= "~"} - set(delimiters)
