"""Names the program that a stdio server really runs: the package, module, script or image behind a runner such as npx.

Only for advice to people: two upstreams with the same program are probably two instances of one server. The result is
compared and never shown, because arguments may hold secrets.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Final

import msgspec

MAX_DEPTH: Final = 4
"""Wrappers, such as `env` or `sh -c`, that are looked through."""


class _Runner(msgspec.Struct, frozen=True):
    """How the arguments of a runner name the program."""

    words: frozenset[str] = frozenset()
    """Subcommands that may stand before the program."""
    naming: frozenset[str] = frozenset()
    """Options whose value is the program."""
    valued: frozenset[str] = frozenset()
    """Other options with a value."""
    command: bool = False
    """Whether the first argument is another command."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NODE: Final = _Runner(valued=_words("-r --require --import --loader --experimental-loader --env-file -C --conditions"))
_PACKAGES: Final = _Runner(
    words=_words("dlx exec run x"),
    naming=_words("-p --package"),
    valued=_words("--registry --prefix --cache -w --workspace -C --dir --filter"),
)
_PYTHON: Final = _Runner(naming=_words("-m"), valued=_words("-W -X --check-hash-based-pycs"))
_UV: Final = _Runner(
    words=_words("tool run"),
    naming=_words("--from --spec -m --module"),
    valued=_words(
        "--with --with-editable --with-requirements --python -p --directory --project --index --index-url --pip-args "
        "--default-index --extra-index-url --env-file --refresh-package --group --extra --package --cache-dir "
        "--config-file"
    ),
)
_CONTAINERS: Final = _Runner(
    words=_words("run container exec compose"),
    valued=_words(
        "-e --env --env-file -v --volume --volumes-from --mount --tmpfs --device -p --publish --name --network --net "
        "--add-host --dns --ip -h --hostname -w --workdir -u --user --userns --group-add --entrypoint --platform -l "
        "--label -m --memory --shm-size --cpus --gpus --pids-limit --ulimit --pull --restart --cap-add --cap-drop "
        "--security-opt --log-driver --log-opt --cidfile -f --file --context --ipc --pid"
    ),
)
_SCRIPT: Final = _Runner(words=_words("run exec"), valued=_words("-r -I -e --require --project -C --tsconfig"))
_SHELL: Final = _Runner(naming=_words("-c /c /C -lc -ic"))
_RUNNERS: Final[Mapping[str, _Runner]] = {
    **dict.fromkeys(("npx", "npm", "pnpm", "pnpx", "yarn", "bunx"), _PACKAGES),
    **dict.fromkeys(("uv", "uvx", "pipx"), _UV),
    **dict.fromkeys(("python", "python3", "pypy", "pypy3", "py"), _PYTHON),
    **dict.fromkeys(("docker", "podman", "nerdctl", "finch"), _CONTAINERS),
    "node": _NODE,
    "java": _Runner(naming=_words("-jar -m --module"), valued=_words("-cp -classpath --class-path -p --module-path")),
    **dict.fromkeys(("bun", "deno", "tsx", "ts-node", "ruby", "perl", "php", "dotnet", "go", "cargo"), _SCRIPT),
    **dict.fromkeys(("Rscript", "pwsh", "powershell", "bundle", "lua", "julia"), _SCRIPT),
    **dict.fromkeys(("sh", "bash", "zsh", "dash", "cmd"), _SHELL),
    **dict.fromkeys(("env", "nice", "nohup", "time", "sudo", "xvfb-run", "stdbuf"), _Runner(command=True)),
}
_ASSIGNMENT: Final = re.compile(r"[A-Za-z_]\w*=")
_VERSION: Final = re.compile(r"(?<=.)(?:\[[^\]/]*\])?(?:@[^/@]*|[=<>!~]=?[^/]*)?\Z")
"""The extras and the version at the end of a package's name."""
_TAG: Final = re.compile(r"(?:@sha256:[0-9a-f]*|:[^/:]*)\Z")
"""The digest or the tag at the end of an image's name."""


def program(command: str, args: Sequence[str], depth: int = 0) -> str:
    """The program that a command line runs, without its version; the command's own name if it is no runner."""
    name = PurePath(command).name.partition(".")[0]
    runner = _RUNNERS.get(name)
    if runner is None or depth >= MAX_DEPTH:
        return name if runner is not None else PurePath(command).name
    if runner.command:
        rest = [*args]
        while rest and (rest[0].startswith("-") or _ASSIGNMENT.match(rest[0])):
            del rest[0]
        return program(rest[0], rest[1:], depth + 1) if rest else name
    found = _named(runner, args)
    if not found:
        return name
    if runner is _SHELL and not _SHELL.naming.isdisjoint(args):
        return _of_shell(found, args, depth)
    if runner is _CONTAINERS:
        return _TAG.sub("", found)
    return _VERSION.sub("", found) if runner in (_PACKAGES, _UV) else found


def _named(runner: _Runner, args: Sequence[str]) -> str | None:
    """The value of the option that names the program, or the first argument that is neither option nor subcommand."""
    rest = iter(args)
    words = set(runner.words)
    for argument in rest:
        option, equals, value = argument.partition("=")
        if option in runner.naming:
            return value if equals else next(rest, None)
        if argument.startswith("-"):
            if option in runner.valued and not equals:
                next(rest, None)
        elif argument in words:
            words.discard(argument)
        else:
            return argument
    return None


def _of_shell(line: str, args: Sequence[str], depth: int) -> str:
    """The program that a shell runs: the first of its command line, or the script."""
    try:
        words = shlex.split(line)
    except ValueError:
        return line
    if len(words) == 1 and line in args:  # `cmd /c npx …` has the command's arguments beside it
        words += args[list(args).index(line) + 1 :]
    while words and (_ASSIGNMENT.match(words[0]) or words[0] == "exec"):
        del words[0]
    return program(words[0], words[1:], depth + 1) if words else line
