"""The page for a person who opens an endpoint in a browser: what this server is, and how to connect to it.

It loads nothing and runs no scripts. All it shows about this gateway is the address that the browser has used.
"""

from __future__ import annotations

import html
from typing import Final

from gateway_core.downstream.browsers.html_page import HEADERS, framed
from gateway_core.http1.head import RequestHead
from gateway_core.http1.media_types import EVENT_STREAM
from gateway_core.http1.response import Response
from gateway_core.mcp.profile_address import profile_path

_HEADERS: Final = {**HEADERS, "Vary": "Accept, Origin"}
_BODY: Final = """<h1>Radium MCP gateway</h1>
<p>This is a server of the Model Context Protocol (MCP). AI agents connect to it and reach the tools, prompts and
resources of all MCP servers behind it. It has no pages for browsers besides this one.</p>
<h2>Connect an agent</h2>
<p>The address of the MCP endpoint (Streamable HTTP) is:</p>
<pre>{url}</pre>
<p>Most agents read a JSON file with an entry like this one:</p>
<pre>{{
  "mcpServers": {{
    "radium": {{ "type": "http", "url": "{url}" }}
  }}
}}</pre>
{older}<p>If a proxy stands before the gateway and your browser shows another host, use that one.</p>
<h2>Operate it</h2>
<p>On the machine of the gateway, <code>rad mcp proxy status</code> shows the state of every server, and
<code>rad mcp proxy tools</code> lists the tools.</p>"""
_OLDER: Final = "<p>Agents that know only the older transport HTTP+SSE use <code>{url}</code>.</p>\n"


def is_for_people(head: RequestHead) -> bool:
    """Whether a browser sent the request because a person opened an address."""
    if head.method != "GET":
        return False
    accepted = head.fields.get("accept", "").lower()
    return "text/html" in accepted and EVENT_STREAM not in accepted


def page(head: RequestHead, profile: str | None = None, *, secure: bool, sse: bool) -> Response:
    """The page. `profile`: the one that the address names. `secure`: whether the connection uses TLS. `sse`: whether
    the transport HTTP+SSE is on."""
    url = html.escape(f"{'https' if secure else 'http'}://{head.fields['host']}")
    mcp, older = (url + profile_path(path, profile) for path in ("/mcp", "/sse"))
    body = _BODY.format(url=mcp, older=_OLDER.format(url=older) if sse else "")
    return Response(framed("Radium MCP gateway", body).encode(), headers=_HEADERS)
