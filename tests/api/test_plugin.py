"""The optional base class: the gateway treats it as a plain class with a `Config` and a constructor."""

from pathlib import Path
from typing import Generic, TypeVar

import pytest
from pydantic import ValidationError

from gateway_core import Call, ConfigPath, Plugin, PluginConfig, Reject, hookimpl
from gateway_core.api.plugin import FOLDER
from gateway_core.testing import configured, make_call, run_hook


class Settings(PluginConfig):
    closed: bool = False


class Closed(Plugin[Settings]):
    @hookimpl
    def before_call(self, call: Call) -> Reject | None:
        return Reject("closed") if self.config.closed else None


def test_the_type_argument_is_its_config() -> None:
    assert Closed.Config is Settings
    closed = configured(Closed, closed=True)
    assert isinstance(closed.instance, Closed)
    assert closed.instance.config == Settings(closed=True)
    assert run_hook(closed.instance, "before_call", make_call()) == Reject("closed")
    assert run_hook(Closed, "before_call", make_call()) is None


def test_a_class_nested_in_it_works_too() -> None:
    class Nested(Plugin["Nested.Config"]):
        class Config(PluginConfig):
            limit: int = 3

    assert Nested(Nested.Config()).config.limit == 3


def test_a_generic_class_between_passes_the_type_on() -> None:
    config = TypeVar("config", bound=PluginConfig)

    class Between(Plugin[config], Generic[config]):
        pass

    class Last(Between[Settings]):
        pass

    assert (Between.Config, Last.Config) == (PluginConfig, Settings)


def test_without_settings_it_takes_the_empty_ones() -> None:
    class Simple(Plugin[PluginConfig]):
        pass

    assert Simple.Config is PluginConfig


@pytest.mark.parametrize("argument", [int, "Settings"])
def test_what_is_no_class_of_settings_is_refused(argument: object) -> None:
    with pytest.raises(TypeError, match=r"Wrong: write the class of its settings into Plugin\[…\]"):
        type("Wrong", (Plugin,), {"__orig_bases__": (Plugin[argument],)})  # type: ignore[index]


def test_two_classes_of_settings_are_refused() -> None:
    with pytest.raises(TypeError, match="name two classes of settings"):

        class Two(Plugin[Settings]):
            class Config(PluginConfig):
                limit: int = 3


class Paths(PluginConfig):
    book: ConfigPath = Path("book.txt")
    others: tuple[ConfigPath, ...] = ()
    none: ConfigPath | None = None


def test_a_path_starts_at_the_folder_of_the_configuration_file_and_so_does_a_default() -> None:
    found = Paths.model_validate({"others": ["a", "/b", "~/c"], "none": "d"}, context={FOLDER: Path("/etc/radium")})
    assert found.book == Path("/etc/radium/book.txt")
    assert found.others == (Path("/etc/radium/a"), Path("/b"), Path.home() / "c")
    assert found.none == Path("/etc/radium/d")


def test_without_a_configuration_file_a_path_stays_relative() -> None:
    assert Paths().book == Path("book.txt")


@pytest.mark.parametrize("wrong", ["", 3, None])
def test_what_is_no_path_is_refused(wrong: object) -> None:
    with pytest.raises(ValidationError):
        Paths.model_validate({"book": wrong})


def test_defaults_are_checked() -> None:
    class Wrong(PluginConfig):
        hour: int = "eight"  # type: ignore[assignment]

    with pytest.raises(ValidationError):
        Wrong()
