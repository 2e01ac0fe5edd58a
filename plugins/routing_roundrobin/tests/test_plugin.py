"""`routing_roundrobin`: every candidate in turn, whatever its priority."""

from collections import Counter

from gateway_routing_roundrobin.plugin import RoundRobin

from gateway_core.testing import configured, make_call, make_upstream, run_hook

A, B, C = (make_upstream(name, order=order, priority=order + 1) for order, name in enumerate("abc"))


def routes(router, candidates, times, **call):
    return "".join(run_hook(router, "route_tool", make_call(**call), candidates).name for _ in range(times))


def router():
    return configured(RoundRobin).instance


def test_calls_rotate_over_all_candidates_whatever_their_priority():
    assert routes(router(), [A, B, C], 7) == "abcabca"


def test_each_tool_has_turns_of_its_own():
    turns = router()
    assert routes(turns, [A, B], 1, name="one") == "a"
    assert routes(turns, [A, B], 1, name="two") == "a"
    assert routes(turns, [A, B], 1, name="one") == "b"
    assert routes(turns, [A, B], 1, name="one", method="prompts/get") == "a"


def test_turns_stay_even_when_candidates_come_and_go():
    turns = router()
    served = Counter()
    for number in range(300):
        candidates = [A, B, C] if number % 3 else [B, C]
        served.update(routes(turns, candidates, 1))
    assert max(served.values()) - min(served.values()) <= 2


def test_asked_again_without_the_one_that_failed_it_takes_the_next():
    turns = router()
    assert routes(turns, [A, B, C], 1) == "a"
    assert routes(turns, [B, C], 1) == "b"
    assert routes(turns, [A, B, C], 2) == "ca"


def test_a_single_candidate_is_chosen():
    assert routes(router(), [B], 2) == "bb"
