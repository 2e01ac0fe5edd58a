"""Logging: one event is one line, on stderr or in a file, as text or as JSON.

Events go through loguru, lines about calls (the access log) through `output.note`, which is cheaper; one renderer and
one writer are under both. `output` sets them up, `access` says what a call's line tells, `lines` what a line looks
like, `escaping` what becomes of strangers' text in it, `sink` how it gets out without holding anybody up.
This file imports nothing, so that `escape` can be had without loguru.
"""
