"""Expressions of rules: what they see, what they cost, and what happens if they have no value."""

import pytest
from gateway_security_policy import bounds
from gateway_security_policy.expressions import EvaluationError, Expression
from gateway_security_policy.plugin import SecurityPolicy

from gateway_core import Pass, Principal, RpcError
from gateway_core.testing import make_call, run_hook

ALICE = Principal.proven(
    "alice", issuer="i", groups=["dev", "ops"], scopes=["s"], claims={"team": {"name": "red", "ids": [1, 2]}}
)
ARGUMENTS = {"path": "/srv/a", "n": 3, "f": 1.5, "flag": True, "none": None, "list": [1, "a", {"k": 1}], "big": 2**70}


def holds(source, arguments=None, principal=None, tool=None):
    return Expression(source).holds(principal or {}, tool or {}, ARGUMENTS if arguments is None else arguments)


@pytest.mark.parametrize(
    "source",
    [
        'arguments.path.startsWith("/srv/")',
        'arguments.path.matches("^/srv/[a-z]$")',
        'arguments["path"] == "/srv/a"',
        "arguments.n == 3 && arguments.n > 2.5 && arguments.f < 2",
        "arguments.flag",
        "arguments.none == null",
        'has(arguments.path) && !has(arguments.other) && "path" in arguments',
        'arguments.list.exists(x, x == "a")',
        "arguments.list[2].k == 1",
        "size(arguments) == 7",
        "arguments.big > 1000",
        "arguments.missing == 1 || true",
        'arguments.path == "arguments.other" || true // arguments.third',
    ],
)
def test_what_holds(source):
    assert holds(source)


@pytest.mark.parametrize(
    "source",
    [
        "arguments.missing == 1",
        "arguments.n.k == 1",
        'arguments.n.startsWith("x")',
        "arguments.list[9] == 1",
        "arguments.n / 0 == 1",
        "arguments.n",
        "arguments.path",
        "arguments.list.all(x, x > 0)",
        "principal.claims.subjet == 'alice'",
    ],
)
def test_what_has_no_value(source):
    with pytest.raises(EvaluationError):
        holds(source)


def test_the_members_that_are_declared_are_those_of_calls():
    from gateway_security_policy.expressions import MEMBERS
    from gateway_security_policy.rules import Subject, facts_of

    words = {str: "text", bool: "boolean", list: "texts", dict: "object"}
    facts = {"principal": facts_of(ALICE), "tool": Subject("tools/call", "tool", "a", "a", "up").facts()}
    assert {name: {member: words[type(value)] for member, value in of.items()} for name, of in facts.items()} == MEMBERS


@pytest.mark.parametrize(
    "source",
    [
        'principal.subject == "alice" && principal.verified && "dev" in principal.groups',
        'has(principal.claims.team) && principal.claims["team"].ids[0] == 1',
        'tool.annotations.readOnlyHint || has(tool.annotations.title) || tool.tier + "x" == ""',
        'principal.groups.exists(g, g.startsWith("o")) && principal . id == .principal.id',
    ],
)
def test_members_that_exist_can_be_read(source):
    subject = {"annotations": {"readOnlyHint": True}, "tier": "read"}
    from gateway_security_policy.rules import facts_of

    assert Expression(source).holds(facts_of(ALICE), subject, None)


def test_the_variables_that_an_expression_reads_are_known():
    assert Expression('principal.subject == "a"').uses == {"principal"}
    assert Expression('tool.name == arguments.path || "principal" == ""').uses == {"tool", "arguments"}
    assert Expression("true").uses == frozenset()


@pytest.mark.parametrize(
    ("source", "members"),
    [
        ("arguments.path == '' && has(arguments.q.r)", ("path", "q")),
        ("arguments . path == arguments.path", ("path",)),
        ("arguments.path.size() == 1", ("path",)),
        ("arguments.size() == 1", None),
        ("arguments['a'] == 1", None),
        ("'a' in arguments", None),
        ("arguments.a == 1 && size(arguments) == 1", None),
        ("tool.annotations.arguments.a == 1", None),
        ("tool.name == 'arguments.x' && arguments.y == 1 // arguments.z", ("y",)),
    ],
)
def test_only_the_arguments_that_are_named_are_converted(source, members):
    assert Expression(source)._members == members


def test_large_arguments_that_are_not_named_do_not_matter():
    arguments = {**ARGUMENTS, "content": "x" * 5_000_000, "rows": list(range(100_000))}
    assert holds('arguments.path == "/srv/a"', arguments)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("size(arguments.x) > 0", list(range(bounds.MAX_VALUES))),
        ("size(arguments.x) > 0", "x" * (bounds.MAX_CHARACTERS + 1)),
        ("[1].exists(i, size(arguments.x) > i)", "x" * (bounds.MAX_LOOP_CHARACTERS + 1)),
        ("arguments.x.contains(arguments.x)", "x" * (bounds.MAX_LOOP_CHARACTERS + 1)),
        ("[1].exists(i, [1].exists(j, size(arguments.x) > i))", "x" * (bounds.MAX_DEEP_CHARACTERS + 1)),
        ("[1].exists(i, arguments.x.contains (tool.name))", "x" * (bounds.MAX_DEEP_CHARACTERS + 1)),
        ('arguments.x.all(i, i.matches("a"))', ["a"] * bounds.MAX_PATTERN_VALUES),
        ('arguments.x.matches("[ab]*a[ab]{50}c")', "ab" * 100_000),
        ("arguments.x.matches(// a pattern\n r'[ab]*a[ab]{50}c')", "ab" * 100_000),
        ("has(arguments.x)", 10**400),
    ],
)
def test_what_is_too_large_has_no_value(source, value):
    with pytest.raises(EvaluationError, match="too"):
        holds(source, {"x": value})


@pytest.mark.parametrize(
    "source",
    [
        'arguments.x.contains("..") || true',
        'arguments.x.matches("^/srv/[a-z0-9/_.-]+$") || true',
        "arguments.x.matches(r'(?i)\\b(select|insert|update|delete|drop)\\b') || true",
        '"matches(" == "" || arguments.x != "" || \'.exists(\' == ""',
    ],
)
def test_long_arguments_have_a_value_where_that_is_cheap(source):
    assert holds(source, {"x": "select " * 15_000})


def test_deep_arguments_have_no_value_and_do_not_overflow_a_stack():
    deep = {}
    for _ in range(900):
        deep = {"x": deep}
    with pytest.raises(EvaluationError, match="too many values or levels"):
        holds("has(arguments.x)", deep)


def test_loops_within_loops_are_ended():
    with pytest.raises(EvaluationError, match=r"[Bb]udget"):
        holds("arguments.x.all(i, arguments.x.all(j, i + j >= 0))", {"x": list(range(900))})


def test_half_a_character_has_no_value():
    with pytest.raises(EvaluationError):
        holds('arguments.x == "a"', {"x": "\ud800"})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("arguments.x.map(i, i) == []", "map is not available"),
        ("arguments.x . filter (i, i > 1) == []", "filter is not available"),
        ("arguments.x.matches(arguments.y)", "matches needs a pattern"),
        ("matches(arguments.x, arguments.y)", "matches needs a pattern"),
        ('arguments.x.all(i, arguments.y.all(j, j.matches("a")))', "matches is available in one loop"),
        (r'arguments.x.matches("\\p{L}{1,200}x")', "the pattern of matches is too large: use"),
        ('arguments.x.all(i, i.matches("[a-z]{1,64}@[a-z]{1,64}"))', "the pattern of matches is too large in a loop"),
        ('arguments.x.matches("(")', "not valid"),
        ("(" * 40 + "true" + ")" * 40, "recursion"),
        ("true\x00", "not printable"),
        ("\ud800 == 1", "not printable"),
        ("principal.sbuject == 'a'", r"no member sbuject; did you mean principal\.subject\?.*column 10"),
        ("principal.xyz == ['a']", "no member xyz; it has id, subject, "),
        ("has(principal.tenant)", "no member tenant"),
        ("arguments.n == 1 && tool.teir == 'read'", r"no member teir; did you mean tool\.tier\?"),
        ("[1].exists(i, tool.title == '')", "tool has no member title"),
        ('principal["subject"] == "a"', "principal is not a value; write one of its members after a dot: it has id"),
        ("'a' in principal", "principal is not a value"),
        ("has(principal.verified) && arguments.x", r"principal\.verified always exists; leave out has"),
        ("principal.verified == 'yes'", "has a type error: found no matching overload"),
        ("principal.groups == 'dev'", "has a type error: found no matching overload"),
        ("principal.subject.claims == 1", "has a type error: expression of type 'string'"),
        ("principal.subject", "must be true or false, and is of the type string"),
        ('"abc" < 3', "no matching overload.*line 1, column 7"),
    ],
)
def test_what_is_refused_at_start(source, message):
    with pytest.raises(ValueError, match=message):
        Expression(source)


def decide(rules, arguments):
    plugin = SecurityPolicy(SecurityPolicy.Config(rules=rules))
    verdict = run_hook(plugin, "before_call", make_call("t", arguments, principal=ALICE))
    return "allow" if verdict is None or isinstance(verdict, Pass) else getattr(verdict, "message", "hide")


def test_a_rule_without_a_value_allows_nothing_and_denies():
    when = "arguments.n > 1"
    for arguments in ({}, {"n": "x"}, {"n": [1]}, None):
        assert decide([{"when": when, "then": "allow"}], arguments) == "hide"
        assert decide([{"when": when, "then": "deny", "reason": "no"}, {"then": "allow"}], arguments) == "no"
    assert decide([{"when": when, "then": "allow"}], {"n": 2}) == "allow"
    assert decide([{"when": when, "then": "deny", "reason": "no"}, {"then": "allow"}], {"n": 1}) == "allow"
    static = "principal.claims.absent == 1"
    assert decide([{"when": static, "then": "allow"}], {}) == "hide"
    assert decide([{"when": static, "then": "deny", "reason": "no"}, {"then": "allow"}], {}) == "no"


def test_an_expression_sees_the_principal_and_the_tool():
    for when in (
        'principal.subject == "alice" && principal.verified && principal.id == "alice|i"',
        'principal.groups == ["dev", "ops"] && "s" in principal.scopes',
        'principal.claims.team.name == "red" && 2 in principal.claims.team.ids',
        'tool.name == "t" && tool.upstream == "upstream" && tool.tier == "destructive" && tool.kind == "tool"',
        "tool.annotations == {}",
    ):
        assert decide([{"when": when, "then": "allow"}], {}) == "allow", when


def test_arguments_that_parsers_read_differently_are_refused_whatever_the_rules_say():
    call = make_call("t", principal=ALICE)
    twice = type(call)("tools/call", "t", ALICE, "modern", "x", b'{"n":1,"n":5}', tool=call.tool, _served=call._served)
    plugin = SecurityPolicy(SecurityPolicy.Config(rules=[{"when": "arguments.n == 5", "then": "allow"}]))
    with pytest.raises(RpcError) as refused:
        run_hook(plugin, "before_call", twice)
    assert refused.value.code == -32600
