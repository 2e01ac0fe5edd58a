"""The agents' side: everything between a socket (or stdin) and `pipeline.call()`.

A **message** arrives over one of three transports. `app.py` gives the requests of the HTTP server in `http1/` their
meaning: `security.py` checks Host and Origin, `request_headers.py` reads the other headers, and the message goes to
`modern.py` (stateless, 2026-07-28 on) or `legacy_http.py` (sessions, up to 2025-11-25). `sse.py` is the older
HTTP+SSE transport, `stdio.py` serves one agent on stdin and stdout; both are one two-way channel per agent, which
`duplex.py` drives.

What the transports share: `legacy.py` and `modern.py` say what a request means in their era, `agents.py` who an agent
is and how its request becomes a call, `sessions.py` keeps legacy agents, `questions.py` what they were asked,
`subscriptions.py` the modern agents' change streams, `stream.py` is the bounded mailbox that everything an agent is
told goes through, and the answer to one POST; `replay.py` keeps legacy agents' streams when connections break.
`services.py` names what is needed from the rest, and lets requests, sessions and subscriptions in.
"""
