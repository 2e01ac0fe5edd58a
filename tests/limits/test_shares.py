"""Who holds places, whose turn it is, and who has most."""

from gateway_core.limits.shares import Shares, network_of


def test_a_host_is_its_ipv4_address_or_its_ipv6_network() -> None:
    assert network_of("10.0.0.1") == "10.0.0.1"
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1") != network_of("2001:db8:0:1::1")
    assert network_of("stdio") == "stdio"


def test_networks_take_turns_and_so_do_the_names_of_each() -> None:
    shares: Shares[str] = Shares()
    for number in range(3):
        shares.add(("a", "flood"), f"flood {number}")
    shares.add(("a", "calm"), "calm")
    shares.add(("b", "other"), "other")
    assert [shares.take_turn() for _ in range(5)] == ["flood 0", "other", "calm", "flood 1", "flood 2"]
    assert not shares.held
    assert len(shares) == 0


def test_who_has_more_is_above_and_the_largest_comes_first() -> None:
    shares: Shares[str] = Shares()
    for network, name, number in (("a", "x", 3), ("a", "y", 1), ("b", "z", 2)):
        for item in range(number):
            shares.add((network, name), f"{name}{item}")
    assert list(shares.above(("c", "new"))) == [("a", "x"), ("a", "y"), ("b", "z")]
    assert list(shares.above(("b", "z"))) == [("a", "x"), ("a", "y")]
    assert list(shares.above(("a", "y"))) == [("a", "x")]
    assert list(shares.above(("a", "x"))) == []


def test_what_is_removed_leaves_nothing() -> None:
    shares: Shares[str] = Shares()
    shares.add(("a", "x"), "one")
    assert "one" in shares
    assert shares.remove("one")
    assert not shares.remove("one")
    assert "one" not in shares
    assert (shares.held, len(shares), shares.of_network("a")) == ({}, 0, 0)
