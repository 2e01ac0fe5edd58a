"""An HTTP server behind a load balancer: `/mcp` redirects to `/mcp/` (307), and a cookie has to come back.

A request of the session without the cookie reaches another machine, which does not know the session.
"""

from wire import plain, serve, write


def handle(sock, start, headers, message):
    method, path, _ = start.split()
    if path == "/mcp":
        write(sock, status="307 Temporary Redirect", kind=None, extra=["Location: /mcp/"])
        return False
    if method != "POST":
        write(sock, status="405 Method Not Allowed")
        return False
    first = message.get("method") == "initialize"
    if not first and message.get("method") != "server/discover" and "lb=one" not in headers.get("cookie", ""):
        write(sock, b"unknown session", "404 Not Found", "text/plain")
        return False
    reply = plain(message)
    extra = ["Mcp-Session-Id: s-1", "Set-Cookie: lb=one; Path=/; HttpOnly", "Set-Cookie: other=2"] if first else []
    write(sock, reply or b"", "200 OK" if reply else "202 Accepted", extra=extra)
    return False


serve(handle)
