"""The page on which a person answers a question of a plugin; see `pipeline/input_required/question_pages.py`.

A person proves who they are by what their browser sends (a client certificate, or the login of a trusted proxy), or by
a key that they type. Only a gateway that this machine alone reaches, and whose agents prove nothing, has pages without
proof. The page needs no script and no cookie: its address is a secret of 256 bits, so no other site can post to it.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qs

from loguru import logger
from msgspec.structs import replace

from gateway_core.api import Action, Principal
from gateway_core.concealing import QUESTION_PAGES
from gateway_core.downstream.auth.authentication import Authentication
from gateway_core.downstream.browsers.html_page import HEADERS, OWN_FORM_HEADERS, framed, message
from gateway_core.downstream.browsers.pending_pages import PendingPage, PendingPages
from gateway_core.downstream.http_errors import busy
from gateway_core.http1.application import Client, Handler
from gateway_core.http1.head import HttpError, RequestHead
from gateway_core.http1.response import Response
from gateway_core.pipeline.input_required.question_pages import QuestionPage, QuestionPages

MAX_FORM: Final = 8 * 1024
"""Maximum bytes of an answer."""
MAX_FIELDS: Final = 8
FORM: Final = "application/x-www-form-urlencoded"
_ACTIONS: Final[Mapping[str, Action]] = {"approve": "accept", "decline": "decline"}
# The first button is the one that Enter in the field for the key presses: disabled, so that only a click decides.
_BODY: Final = """<h1>An agent asks for your decision</h1>
<p>{who}</p>
<pre class="text">{question}</pre>
{problem}{form}
<p>Close this page if you do not know of this. Nothing happens without an answer.</p>"""
_FORM: Final = """<form method="post"><button type="submit" disabled hidden></button>
{key}<button type="submit" name="answer" value="approve">Approve</button>
<button type="submit" name="answer" value="decline">Decline</button>
</form>"""
_OPERATORS: Final = "<p>An operator of this gateway answers the question, on its dashboard or command line.</p>"
_KEY: Final = """<p><label>{label}<br>
<input type="password" name="key" autocomplete="off" required autofocus></label></p>
"""


class QuestionPageHttp:
    """Serves the pages of questions."""

    def __init__(self, pages: QuestionPages, authentication: Authentication) -> None:
        self._pages = pages
        self._authentication = authentication
        self._pending = PendingPages("answering")

    def use(self, authentication: Authentication) -> None:
        """Apply another configuration to the answers that come from now on."""
        self._authentication = authentication

    def handler(self, client: Client, head: RequestHead) -> Handler | None:
        """The handler of a request to a page; None for any other path. Raises `HttpError`."""
        if not head.path.startswith(QUESTION_PAGES):
            return None
        if head.method not in ("GET", "POST"):
            allow = "GET, POST, OPTIONS"
            raise HttpError(405, f"this address answers {allow}", headers={"Allow": allow})
        if head.length > MAX_FORM or head.chunked:
            raise HttpError(413, f"an answer has at most {MAX_FORM} bytes and a known length", close=True)
        if not client.admit():
            raise busy("the limit of connections is reached", close=True)
        return self._serve

    def _serve(self, client: Client, head: RequestHead, body: bytes) -> Response | PendingPage:
        token = head.path.removeprefix(QUESTION_PAGES)
        page = self._pages.at(token)
        if page is None or page.answer.done():
            return self._gone(token)
        answer, key = "", ""
        if head.method == "POST":
            fields = _fields(head, body)
            answer, key = fields.get("answer", ""), fields.get("key", "")
            if answer not in _ACTIONS:
                raise HttpError(400, "the answer must be approve or decline")
        return self._pending.make(self._answered(client, head, page, answer, key))

    async def _answered(self, client: Client, head: RequestHead, page: QuestionPage, answer: str, key: str) -> Response:
        """Show the question, or take the answer of a person who may give it."""
        try:
            person = await (self._with_key(client, head, key) if key else self._authentication.proven(client, head))
        except HttpError as error:
            return _question(page, needs_key=True, problem=f"Nothing was done: {error.message}. Try again later.")
        lines = logger.bind(exchange=page.exchange, generation=page.generation)
        may = self._pages.may_answer(page, person) and not (key and person is None)
        if not answer:
            return _question(page, needs_key=not may)
        if not may:
            lines.warning("a person could not answer a question of plugin {}: {}", page.plugin, _why_not(person))
            return _question(page, needs_key=True, problem="This key does not allow you to answer. Nothing was done.")
        who = "" if person is None else person.id
        if not self._pages.decide(page, (_ACTIONS[answer], who)):
            return self._gone(page.token)
        by = who or "someone unproven"
        lines.info("a question of plugin {} was answered on its page by {}: {}", page.plugin, by, answer)
        if answer == "approve":
            return _page(200, "You approved the call", "It goes on now. You can close this page.")
        return _page(200, "You declined the call", "It was not executed. You can close this page.")

    def _gone(self, token: str) -> Response:
        """The answer for a page that takes none any more."""
        if self._pages.is_over(token):
            text = "The call was cancelled, or its time was over, before the question was answered."
            return _page(404, "The call is over", text)
        text = "The question was answered, or its time is over. If the agent asks again, it gets a new address."
        return _page(404, "This address is not valid any more", text)

    async def _with_key(self, client: Client, head: RequestHead, key: str) -> Principal | None:
        """The principal that a typed key proves, whatever else the browser proves; None for a wrong key.

        Raises `HttpError` (429, 503) if the key cannot be looked at now.
        """
        if not key.isprintable():
            return None  # no header could have brought it
        fields = {**head.fields, "authorization": f"Bearer {key}"}
        with_key = replace(head, fields=fields, repeated=head.repeated - {"authorization"})
        try:
            verdict = await self._authentication.ask(client, with_key)
        except HttpError as error:
            if error.status != 401:
                raise
            return None
        return verdict.caller_found.principal


def _fields(head: RequestHead, body: bytes) -> Mapping[str, str]:
    """The fields of a form. Raises `HttpError` if it is none, or comes from a page elsewhere."""
    if head.fields.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise HttpError(403, "answers come from the page itself")
    if head.fields.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise HttpError(415, f"an answer has the type {FORM}")
    try:
        found = parse_qs(body.decode(), keep_blank_values=True, strict_parsing=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise HttpError(400, "the answer is malformed") from None
    return {name: values[0].strip() for name, values in found.items() if len(values) == 1}


def _question(page: QuestionPage, *, needs_key: bool, problem: str = "") -> Response:
    who = page.principal
    agent = (
        f"It works for {who.subject} (identity confirmed by {who.issuer})."
        if who.verified
        else f"It says that it is {who.client_name or 'unknown'}, at {who.address}; nothing proves it."
    )
    key = ""
    if needs_key:
        groups = f" of a member of {' or '.join(sorted(page.groups))}" if page.groups else f" of {who.subject}"
        key = _KEY.format(label=html.escape(f"Key{groups}, to prove who you are:"))
    body = _BODY.format(
        who=html.escape(f"The plugin {page.plugin} of this gateway holds back a call of an agent. {agent}"),
        question=html.escape(page.message),
        problem=f"<p><strong>{html.escape(problem)}</strong></p>\n" if problem else "",
        form=_OPERATORS if page.approvers and not page.groups else _FORM.format(key=key),
    )
    text = framed("An agent asks for your decision - Radium MCP gateway", body)
    return Response(text.encode(), 403 if problem else 200, OWN_FORM_HEADERS)


def _why_not(person: Principal | None) -> str:
    return "no valid credentials" if person is None else f"{person.id} is not among those who may"


def _page(status: int, title: str, text: str) -> Response:
    return Response(message(title, text).encode(), status, HEADERS)
