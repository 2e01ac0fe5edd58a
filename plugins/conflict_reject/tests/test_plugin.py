"""`conflict_reject`: the first keeps the name, later ones are dropped."""

from gateway_conflict_reject.plugin import RejectConflicts

from gateway_core.testing import make_conflict, make_upstream, run_hook

LATE_BUT_PREFERRED = make_upstream("b", order=1, priority=1)
FIRST = make_upstream("a", order=0, priority=9)


def test_the_first_in_the_file_keeps_the_name_and_the_others_are_dropped():
    conflict = make_conflict("search", FIRST, LATE_BUT_PREFERRED)
    assert run_hook(RejectConflicts, "resolve_conflict", conflict) == {"search": conflict.claims[0]}


def test_what_does_not_clash_keeps_its_name():
    conflict = make_conflict("search", LATE_BUT_PREFERRED)
    assert run_hook(RejectConflicts, "resolve_conflict", conflict) == {"search": conflict.claims[0]}
