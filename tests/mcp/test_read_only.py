"""Read-only JSON: no way to change it, every way to read it, copies that are plain."""

import copy
import json
import operator
import pickle
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel, ConfigDict

from gateway_core.mcp import jsonrpc
from gateway_core.mcp.read_only import ReadOnlyDict, ReadOnlyError, ReadOnlyList, read_only

RAW = b'{"a":[1,{"b":[[2]]}],"c":{"d":null}}'
VALUE = {"a": [1, {"b": [[2]]}], "c": {"d": None}}


@pytest.fixture(params=["decoded", "copied"])
def value(request: pytest.FixtureRequest) -> Any:
    return jsonrpc.value(RAW, frozen=True) if request.param == "decoded" else read_only(copy.deepcopy(VALUE))


def test_every_mutator_of_dict_and_list_is_refused() -> None:
    reads = {"copy", "fromkeys", "get", "items", "keys", "values", "count", "index"}
    for plain, kind in ((dict, ReadOnlyDict), (list, ReadOnlyList)):
        mutators = {name for name in vars(plain) if not name.startswith("_")} - reads
        mutators |= {"__setitem__", "__delitem__", "__ior__", "__iadd__", "__imul__"} & set(vars(plain))
        assert mutators <= set(vars(kind))
        for name in mutators:
            with pytest.raises(ReadOnlyError, match=r"read-only.*call\.replace\(arguments=…\)"):
                getattr(kind(), name)()


@pytest.mark.parametrize(
    "change",
    [
        lambda v: operator.setitem(v, "x", 1),
        lambda v: operator.delitem(v, "a"),
        lambda v: operator.ior(v, {"x": 1}),
        lambda v: operator.setitem(v["c"], "d", 1),
        lambda v: operator.setitem(v["a"], 0, 1),
        lambda v: operator.setitem(v["a"], slice(None), []),
        lambda v: operator.iadd(v["a"], [1]),
        lambda v: v["a"][1]["b"][0].append(1),
        lambda v: v["a"][1].update(x=1),
    ],
)
def test_it_is_read_only_all_the_way_down(value: Any, change: Any) -> None:
    with pytest.raises(TypeError, match="read-only"):
        change(value)
    assert value == VALUE


def test_it_is_a_dict_of_lists_to_every_reader(value: Any) -> None:
    assert isinstance(value, dict)
    assert isinstance(value["a"], list)
    assert json.loads(json.dumps(value)) == VALUE
    assert jsonrpc.encode(value) == RAW
    assert msgspec.convert(value["a"][1], dict[str, list[list[int]]]) == {"b": [[2]]}

    class Model(BaseModel):
        model_config = ConfigDict(strict=True)
        a: list[Any]
        c: dict[str, None]

    assert Model(**value).model_dump() == VALUE
    match value:
        case {"a": [1, {"b": found}], **others}:
            assert (found, others) == ([[2]], {"c": {"d": None}})
        case _:
            pytest.fail("it does not match as a dict does")


def test_copies_are_plain_and_can_be_changed(value: Any) -> None:
    for made in (copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
        assert made == VALUE
        assert type(made) is dict
    deep = copy.deepcopy(value)
    deep["a"][1]["b"][0].append(3)
    deep["c"]["d"] = 1
    for shallow in (dict(value), value.copy(), copy.copy(value), value | {"x": 1}, {**value}):
        assert type(shallow) is dict
        shallow["x"] = 2
    for shallow in (list(value["a"]), value["a"].copy(), copy.copy(value["a"]), value["a"][:], value["a"] + [1]):
        assert type(shallow) is list
        shallow.append(2)
    assert value == VALUE


def test_what_is_read_only_already_is_not_copied(value: Any) -> None:
    assert read_only(value) is value
    assert read_only("text") == "text"
