"""What people see when something goes wrong, and the exit code that goes with it.

Whatever an operator can mend is a message on stderr; a traceback is for bugs, and only on request.
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
from gateway_core.cli.instance import NotRunning, UsageError
from gateway_core.errors import ConfigError, GatewayError, PluginError
from gateway_core.log.escaping import escape

DEBUG_VARIABLE = "RADIUM_DEBUG"


class Failed(GatewayError):
    """The command did what it could and the answer is no. The text may be empty when all has been said."""


def exit_code(error: GatewayError) -> ExitCode:
    if isinstance(error, UsageError | ConfigError | PluginError):
        return ExitCode.USAGE
    return ExitCode.NOT_RUNNING if isinstance(error, NotRunning) else ExitCode.FAILED


def describe(error: Exception) -> tuple[str, ExitCode]:
    """The message for `error` (escaped, perhaps of several lines) and the exit code."""
    if isinstance(error, ConfigError):
        count = len(error.problems)
        lines = [escape(problem) for problem in error.problems]
        return "\n".join([f"{count} problem{'s' * (count != 1)} in the configuration:", *lines]), ExitCode.USAGE
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
    """Run `command`, which may return an exit code, and turn what it raises into a message on stderr and another."""
    try:
        code = command()
    except KeyboardInterrupt:
        say_error("interrupted")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) left. Python would complain once more when it flushes stdout at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return ExitCode.FAILED
    except Exception as error:  # noqa: BLE001 - the last line of defence of the command line
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
    """A line for people, on stderr: stdout is for what was asked for."""
    print(text, file=sys.stderr, flush=True)


def put(text: str = "") -> None:
    """A line of the answer, on stdout."""
    print(text, flush=True)


def put_json(value: Any) -> None:
    """The answer as JSON, on stdout; ASCII, so that nothing in it can act on a terminal."""
    put(json.dumps(value, indent=2, ensure_ascii=True))
