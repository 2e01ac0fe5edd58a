"""Logging: one event is one line, on stderr or in a file, as text or as JSON.

Events go through loguru. Lines about calls (the access log) go through `output.note`, which is cheaper. Both share one
renderer and one writer. `output` sets up the log, `access` makes the fields of a call's line, `lines` renders lines,
`escaping` escapes untrusted text, and `sink` writes lines without blocking the event loop.
This file imports nothing, so that `escape` can be imported without loguru.
"""
