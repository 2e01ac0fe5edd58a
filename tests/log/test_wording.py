import pytest

from gateway_core.log.wording import count


@pytest.mark.parametrize(("number", "text"), [(0, "0 upstreams"), (1, "1 upstream"), (2, "2 upstreams")])
def test_one_thing_is_not_many(number, text):
    assert count(number, "upstream") == text
