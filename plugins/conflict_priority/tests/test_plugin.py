"""`conflict_priority`: the lowest priority number keeps the name."""

from gateway_conflict_priority.plugin import PriorityConflicts

from gateway_core.testing import make_conflict, make_upstream, run_hook


def winner(*claims):
    conflict = make_conflict("search", *claims)
    published = run_hook(PriorityConflicts, "resolve_conflict", conflict)
    assert list(published) == ["search"]
    return published["search"].owner.name


def test_the_lowest_number_keeps_the_name_and_the_others_are_dropped():
    assert winner(make_upstream("a", order=0, priority=5), make_upstream("b", order=1, priority=2)) == "b"


def test_ties_go_to_the_first_claim_which_is_the_holders():
    assert winner(make_upstream("a", order=0, priority=2), make_upstream("b", order=1, priority=2)) == "a"
    assert winner(make_upstream("b", order=1, priority=2), make_upstream("a", order=0, priority=2)) == "b"


def test_replicas_count_with_their_best_upstream():
    replicas = [make_upstream("b", order=1, priority=7), make_upstream("c", order=2, priority=1)]
    assert winner(make_upstream("a", order=0, priority=3), replicas) == "b"


def test_the_winner_does_not_depend_on_health():
    down = make_upstream("b", order=1, priority=1, healthy=False)
    assert winner(make_upstream("a", order=0, priority=2), down) == "b"
