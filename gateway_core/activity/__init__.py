"""What the running gateway does, for operators: events, ended calls, questions.

`journal` keeps what happened, bounded. `recorder` makes the record of each call, and of every call only while a reader
watches. `definitions` is the record of changed definitions. `following` is the stream of one reader. `activity` is what
the control plane asks.
"""

from __future__ import annotations

from gateway_core.activity.activity import Activity

__all__ = ["Activity"]
