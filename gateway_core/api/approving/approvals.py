"""`Approvals`: asks the agent's user whether calls may be made, for plugins that know which calls need a person."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field

from gateway_core.api.approving.memory import MAX_SECONDS, Key, Memory
from gateway_core.api.approving.question import MAX_SHOWN, question
from gateway_core.api.asking import Ask
from gateway_core.api.call import Call, answers_of
from gateway_core.api.hiding.hider import Hider
from gateway_core.api.tier import tier_of
from gateway_core.api.verdict import Reject

Remember: TypeAlias = Literal["no", "session"] | Annotated[int, Field(gt=0, le=MAX_SECONDS)]
"""Type of a setting: how long an approval counts for other calls of the same name: not, for the session, or seconds."""
NAME: Final = "approval"
PAGE_NAME: Final = "approval-page"
"""The name of a question that only a page answers."""
SHOWN: Final = 2000


class Approvals:
    """Asks whether calls may be made, and remembers what users approved. One object for each plugin.

    The user sees the server, the name and the arguments, with secrets hidden. An approval counts for exactly the call
    that was shown; `remember` extends it to later calls of the same name.
    """

    MAX_SECONDS: Final = MAX_SECONDS
    """Largest `remember` in seconds; an approval for a session counts no longer, either."""
    MAX_SHOWN: Final = MAX_SHOWN
    """Largest `max_shown`."""

    def __init__(self, hide: Sequence[str] = (), clock: Callable[[], float] = time.monotonic) -> None:
        """`hide`: patterns of more argument names whose values are hidden. Raises `ValueError` as `Patterns` does."""
        self._hider = Hider(hide, for_questions=True)
        self._clock = clock
        self._memory = Memory()

    def __len__(self) -> int:
        return len(self._memory)

    def verdict(
        self,
        call: Call,
        *,
        remember: Remember = "no",
        reason: str = "",
        rule: str = "",
        lifetime: float | None = None,
        max_shown: int = SHOWN,
        on_page: bool = False,
        approvers: Collection[str] = (),
    ) -> Ask | Reject | None:
        """The verdict on a call that needs a person, for `before_call`: None if it is approved.

        A call that a user approved for another plugin is approved. `reason`: why a person is asked, as the question
        says. `rule`: keeps apart what is remembered for different rules of the plugin. `lifetime`: seconds for the
        answer, as in `Ask`. `max_shown`: characters of the arguments to show. `on_page`, `approvers`: as in `Ask`; what
        was approved for another plugin, perhaps in the client, then does not count.
        """
        name = call.name if call.tool is None else call.tool.name
        question_name = PAGE_NAME if on_page else NAME
        own = call.answers.get(question_name)
        answer = own or (None if on_page else answers_of(call).approval(call.subject))
        seconds = _seconds(call, remember)
        key = _key(call, name, rule, remember)
        if answer is None:
            if seconds and self._memory.has(key, self._clock()):
                return None
            text = question(
                call,
                None if call.tool is None else tier_of(call.tool.annotations),
                reason=reason,
                remembered=_remembered(remember) if seconds else "",
                hider=self._hider,
                max_shown=min(max_shown, MAX_SHOWN),
            )
            return Ask(text, name=question_name, lifetime=lifetime, approves=True, on_page=on_page, approvers=approvers)
        if not answer.accepted:
            why = "the user declined it" if answer.action == "decline" else "the user dismissed the question"
            return Reject(f"{name} was not {_DONE[call.kind]}: {why}. Do not try to reach the same end in another way.")
        if own is not None and seconds:  # the question of another plugin did not say what this one remembers
            self._memory.add(key, self._clock() + seconds)
        return None


_DONE: Final = {"tool": "called", "prompt": "used", "resource": "read", "template": "used"}


def _seconds(call: Call, remember: Remember) -> float:
    """Seconds for which an approval counts for other calls; 0 for none."""
    if remember == "no" or (remember == "session" and not call.session):
        return 0.0
    return MAX_SECONDS if remember == "session" else remember


def _remembered(remember: Remember) -> str:
    """How long an approval will count, for the user."""
    return "in this session" if remember == "session" else f"for {remember} seconds"


def _key(call: Call, name: str, rule: str, remember: Remember) -> Key:
    session = call.session if remember == "session" else ""
    return rule, call.principal.id, session, call.method, name, call.original_name, *call.upstreams
