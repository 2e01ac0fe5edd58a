"""Who gives way to a new connection."""

from gateway_core.http1.connection_limit import EXAMINED, ConnectionLimit


class Held:
    def __init__(self, network: str, idle_since: float | None) -> None:
        self.network = network
        self.idle_since = idle_since
        self.closed = False

    def give_way(self) -> None:
        self.closed = True


def full(*held: Held) -> ConnectionLimit:
    limit = ConnectionLimit(len(held))
    assert all(limit.admit(it) for it in held)
    return limit


def test_the_longest_idle_one_of_the_network_with_most_gives_way() -> None:
    few = Held("a", 1.0)
    many = [Held("b", since) for since in (4.0, 3.0, 5.0)]
    limit = full(few, *many)
    assert limit.admit(Held("c", None))
    assert [it.closed for it in (few, *many)] == [False, False, True, False]
    assert len(limit) == 4


def test_a_network_takes_no_place_of_one_that_has_fewer() -> None:
    idle = Held("a", 1.0)
    limit = full(idle, *(Held("b", None) for _ in range(3)))
    assert not limit.admit(Held("b", None)), "its own are all busy"
    assert limit.admit(Held("c", None)), "it has none yet"
    assert idle.closed


def test_one_network_may_hold_all_places_while_no_other_wants_one() -> None:
    limit = full(*(Held("proxy", None) for _ in range(10)))
    assert not limit.admit(Held("proxy", None))


def test_a_place_of_a_connection_that_ended_is_free() -> None:
    first = Held("a", None)
    limit = full(first)
    limit.leave(first)
    limit.leave(first)
    assert limit.admit(Held("b", None))
    assert len(limit) == 1


def test_an_idle_one_behind_many_busy_ones_is_found_in_the_end() -> None:
    idle = Held("a", 1.0)
    limit = full(*(Held("a", None) for _ in range(2 * EXAMINED)), idle)
    tries = [limit.admit(Held("a", None)) for _ in range(4)]
    assert any(tries)
    assert idle.closed
