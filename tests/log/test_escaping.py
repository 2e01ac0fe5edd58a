"""Escaping of what is not printable."""

import pytest

from gateway_core.log.escaping import escape


def test_escape_leaves_plain_text_alone():
    assert escape("grüße 世界") == "grüße 世界"
    assert escape("a\tb\x00\x9b") == "a\\tb\\x00\\x9b"


@pytest.mark.parametrize("size", [1, 64, 65, 2000])
def test_escape_finds_what_is_not_printable_in_texts_of_any_size(size):
    plain = "".join(chr(32 + number % 95) for number in range(size))
    assert escape(plain) == plain
    assert escape(f"{plain}é") == f"{plain}é"
    for character in map(chr, (*range(32), *range(0x7F, 0xA0), 0x2028, 0xD800, 0x1F600)):
        shown = character if character.isprintable() else character.encode("unicode_escape").decode()
        assert escape(plain + character + plain) == plain + shown + plain
