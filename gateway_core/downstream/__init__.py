"""The agents' side: everything between a socket (or stdin) and `pipeline.call()`.

A **message** arrives over one of three transports. `app.py` routes the requests of the HTTP server in `http1/`:
`http1/hosts.py` checks Host and Origin, `request_headers.py` reads the other headers, and the message goes to
`modern.py` (stateless, 2026-07-28 on) or `legacy_http.py` (sessions, up to 2025-11-25). `sse.py` is the older
HTTP+SSE transport, `stdio.py` serves one agent on stdin and stdout. Both are one two-way channel per agent, which
`duplex.py` drives.

The transports share these parts, which `downstream.py` builds. `legacy.py` and `modern.py` implement a request in their
era; `agents.py` identifies an agent and creates the exchange of its request. `calls/` admits requests and runs them in
the pipeline. `sessions/` keeps legacy agents, and `subscriptions/` the change streams of modern agents. `streams/` has
the bounded mailbox of each agent, the response to one POST, questions to agents, and the event store that resumes
legacy streams.
"""
