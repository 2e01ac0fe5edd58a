"""Logging: one event is one line, on stderr or in a file, as text or as JSON.

`output` sets it up, `lines` says what a line looks like, `escaping` what becomes of strangers' text in it, `sink` how
it gets out without holding anybody up. This file imports nothing, so that `escape` can be had without loguru.
"""
