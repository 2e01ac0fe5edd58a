"""What a command line really runs."""

from __future__ import annotations

import shlex

import pytest

from gateway_core.catalog.programs import program


def of(line: str) -> str:
    command, *args = shlex.split(line)
    return program(command, args)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("npx -y @x/server-files /home", "@x/server-files"),
        ("npx -y @x/server-files@1.2.3 /home", "@x/server-files"),
        ("npx --yes server-git@latest", "server-git"),
        ("npx -p @x/pack@2 some-bin /home", "@x/pack"),
        ("npx --package=@x/pack some-bin", "@x/pack"),
        ("npx --registry https://r.example -y @x/server", "@x/server"),
        ("npx.cmd -y @x/server", "@x/server"),
        ("npm exec --yes @x/server -- /home", "@x/server"),
        ("pnpm dlx @x/server", "@x/server"),
        ("bunx @x/server", "@x/server"),
        ("uvx mcp-server-git --repository x", "mcp-server-git"),
        ("uvx mcp-server-git==2.1 --repository x", "mcp-server-git"),
        ("uvx mcp-server-git@latest", "mcp-server-git"),
        ("uvx --python 3.12 mcp-server-git[cli]", "mcp-server-git"),
        ("uvx --from git+https://example.org/x/y@v1 tool", "git+https://example.org/x/y"),
        ("uv tool run mcp-server-git", "mcp-server-git"),
        ("uv --directory /srv/one run server.py", "server.py"),
        ("uv run --with mcp server.py", "server.py"),
        ("pipx run mcp-server", "mcp-server"),
        ("python3 -m mcp_server --port 1", "mcp_server"),
        ("python3.12 -u /srv/server.py one", "/srv/server.py"),
        ("/usr/bin/python -X dev -m package.server", "package.server"),
        ("node --env-file .env /srv/index.js x", "/srv/index.js"),
        ("node -r dotenv/config index.js", "index.js"),
        ("deno run -A jsr:@x/server", "jsr:@x/server"),
        ("docker run -i --rm -e TOKEN ghcr.io/x/server", "ghcr.io/x/server"),
        ("docker run -i --rm --mount type=bind,src=/a,dst=/a mcp/filesystem /a", "mcp/filesystem"),
        ("docker run -i -v /a:/a -e A=1 --name=n localhost:5000/x/server:1.2", "localhost:5000/x/server"),
        ("podman run --rm -i x/server@sha256:00ff", "x/server"),
        ("java -Xmx1g -jar /srv/a.jar", "/srv/a.jar"),
        ("java -cp lib/* org.example.Main", "org.example.Main"),
        ("env TOKEN=1 npx -y @x/server", "@x/server"),
        ("sh -c 'TOKEN=1 exec npx -y @x/server /home'", "@x/server"),
        ("cmd /c npx -y @x/server", "@x/server"),
        ("bash /srv/run.sh x", "/srv/run.sh"),
        ("/opt/bin/github-mcp-server stdio", "github-mcp-server"),
        ("my.server --x", "my.server"),
        ("npx", "npx"),
        ("docker run -i", "docker"),
        ("sh -c ''", "sh"),
        ("sh -c 'unclosed \"'", 'unclosed "'),
        ("env env env env env env x", "env"),
    ],
)
def test_the_program_behind_a_runner_is_found(line: str, expected: str) -> None:
    if line.endswith("'unclosed \"'"):
        assert program("sh", ["-c", 'unclosed "']) == expected
    else:
        assert of(line) == expected
