"""Output of the commands: results on stdout, error messages on stderr, exit codes.

A traceback is printed only with `--debug` or `RADIUM_DEBUG=1`.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from gateway_core.cli.exit_codes import ExitCode
from gateway_core.cli.instance import NotRunning
from gateway_core.cli.locate import UsageError
from gateway_core.errors import ConfigError, GatewayError, PluginError
from gateway_core.log.escaping import escape
from gateway_core.log.wording import count

DEBUG_VARIABLE = "RADIUM_DEBUG"


class Failed(GatewayError):
    """The command failed. An empty text means that the reason is already printed."""


def exit_code(error: GatewayError) -> ExitCode:
    if isinstance(error, UsageError | ConfigError | PluginError):
        return ExitCode.USAGE
    return ExitCode.NOT_RUNNING if isinstance(error, NotRunning) else ExitCode.FAILED


def describe(error: Exception) -> tuple[str, ExitCode]:
    """The message for `error` (escaped, one or more lines) and the exit code."""
    if isinstance(error, ConfigError | PluginError) and error.problems:
        lines = [f"  {escape(problem)}" for problem in error.problems]
        return "\n".join([f"{count(len(error.problems), 'problem')} in the configuration:", *lines]), ExitCode.USAGE
    if isinstance(error, GatewayError):
        return "\n".join(escape(line) for line in str(error).splitlines()), exit_code(error)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename is not None else ""
        reason = os.strerror(error.errno) if error.errno is not None and error.errno in errno.errorcode else str(error)
        return escape(f"{where}{reason}"), ExitCode.FAILED
    text = " ".join(str(error).split())[:500]
    return (
        f"unexpected {type(error).__name__}: {escape(text)}\n"
        f"  This is a bug in the gateway, please report it. {DEBUG_VARIABLE}=1 (or --debug) shows where it happened.",
        ExitCode.FAILED,
    )


def guarded(command: Callable[[], Any]) -> int:
    """Run `command` and return its exit code. An exception becomes a message on stderr and an exit code."""
    try:
        code = command()
    except KeyboardInterrupt:
        say_error("interrupted")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) left. Python would print another error when it flushes stdout on exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return ExitCode.FAILED
    except Exception as error:  # noqa: BLE001 - the outermost handler of the command line
        if debugging():
            traceback.print_exc()
        text, code = describe(error)
        if text:
            say_error(text)
        return code
    return code if isinstance(code, int) else ExitCode.DONE


def debugging() -> bool:
    return os.environ.get(DEBUG_VARIABLE) == "1"


def say_error(text: str) -> None:
    print(f"error: {text}", file=sys.stderr, flush=True)


def say(text: str = "") -> None:
    """Print a message on stderr; stdout is for results."""
    print(text, file=sys.stderr, flush=True)


def put(text: str = "") -> None:
    """Print a line of the result on stdout."""
    print(text, flush=True)


def put_json(value: Any, *, in_line: bool = False) -> None:
    """Print the result as JSON on stdout; in ASCII, so that no character can control a terminal.

    `in_line`: in one line, for one of many results.
    """
    put(json.dumps(value, indent=None if in_line else 2, ensure_ascii=True))
