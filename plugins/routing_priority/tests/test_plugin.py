"""`routing_priority`: the lowest priority number serves, equals take turns."""

from gateway_routing_priority.plugin import PriorityRouting

from gateway_core.testing import configured, make_call, make_upstream, run_hook

BACKUP = make_upstream("backup", order=0, priority=9)
A = make_upstream("a", order=1, priority=2)
B = make_upstream("b", order=2, priority=2)


def routes(router, candidates, times, **call):
    return [run_hook(router, "route_tool", make_call(**call), candidates).name for _ in range(times)]


def router():
    return configured(PriorityRouting).instance


def test_the_lowest_number_serves_whatever_the_file_order():
    assert routes(router(), [BACKUP, A], 3) == ["a", "a", "a"]


def test_equal_numbers_take_turns_and_the_backup_rests():
    assert routes(router(), [BACKUP, A, B], 5) == ["a", "b", "a", "b", "a"]


def test_the_backup_takes_over_and_the_primary_comes_back():
    turns = router()
    assert routes(turns, [BACKUP, A], 1) == ["a"]
    assert routes(turns, [BACKUP], 2) == ["backup", "backup"]
    assert routes(turns, [BACKUP, A], 1) == ["a"]


def test_each_tool_has_turns_of_its_own():
    turns = router()
    assert routes(turns, [A, B], 1, name="one") == ["a"]
    assert routes(turns, [A, B], 1, name="two") == ["a"]
    assert routes(turns, [A, B], 1, name="one") == ["b"]
