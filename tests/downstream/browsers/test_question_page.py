"""The page on which a person answers: what it shows, who may answer, and what it refuses."""

import asyncio
import html
from typing import Any

import aiohttp
import pytest

from gateway_core import Ask, Principal
from gateway_core.api import OPERATOR, Call
from gateway_core.concealing import QUESTION_PAGES
from gateway_core.config import TrustedProxiesConfig
from gateway_core.downstream.auth.authentication import Authentication
from gateway_core.downstream.auth.forwarded import TrustedProxies
from gateway_core.hooks import Chain, Question
from gateway_core.pipeline.input_required.question_pages import QuestionPage, QuestionPages

from ..auth.keys import Keys

ALICE = Principal.proven("alice", issuer="keys")
CLAIMED = Principal("the-agent@127.0.0.1", client_name="the-agent", address="127.0.0.1")
QUESTION = 'Allow this call?\nserver: "files" <script>alert(1)</script> & more'


class Site:
    """A gateway with pages, and a browser."""

    def __init__(self, world: Any, pages: QuestionPages) -> None:
        self.world = world
        self.pages = pages
        pages.serve_at(lambda: str(world.base), lambda: True)

    def open(self, principal: Principal = ALICE, seconds: float = 60, **settings: Any) -> QuestionPage:
        stage: Any = None
        question = Question("security_approval", Ask(QUESTION, on_page=True, **settings), stage, 0)
        call = Call("tools/call", "write", principal, "modern", "x")
        return self.pages.open(question, call, seconds, bytes)

    async def get(self, page: QuestionPage, **headers: str) -> tuple[int, str, Any]:
        async with self.world.http.get(self.pages.url(page), headers=headers) as response:
            return response.status, await response.text(), response.headers

    async def post(self, page: QuestionPage, headers: Any = None, **form: str) -> tuple[int, str]:
        async with self.world.http.post(self.pages.url(page), data=form, headers=headers) as response:
            return response.status, await response.text()


@pytest.fixture
async def site(start: Any) -> Site:
    pages = QuestionPages(10)
    return Site(await start(authenticators=[Keys()], pages=pages), pages)


async def test_the_page_shows_the_question_and_runs_nothing(site: Site) -> None:
    page = site.open()
    status, text, headers = await site.get(page)
    assert status == 200
    assert html.escape(QUESTION) in text
    assert "<script" not in text
    assert "alice (identity confirmed by keys)" in text
    policy = headers["Content-Security-Policy"]
    for directive in ("default-src 'none'", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"):
        assert directive in policy
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cache-Control"] == "no-store"
    assert "color-scheme:light dark" in text
    assert not page.answer.done(), "to look at it is no answer"


async def test_the_agent_is_described_as_what_it_only_claims_to_be(site: Site) -> None:
    _, text, _ = await site.get(site.open(CLAIMED))
    assert "says that it is the-agent, at 127.0.0.1; nothing proves it" in text


@pytest.mark.parametrize(("answer", "action"), [("approve", "accept"), ("decline", "decline")])
async def test_a_typed_key_of_the_principal_answers_once(site: Site, answer: str, action: str) -> None:
    page = site.open()
    assert 'name="key"' in (await site.get(page))[1]
    status, text = await site.post(page, answer=answer, key="key-alice")
    assert status == 200
    assert f"You {answer}d the call" in text.replace("approveed", "approved")
    assert page.answer.result() == (action, "alice|keys")
    assert (await site.post(page, answer="decline", key="key-alice"))[0] == 404
    assert (await site.get(page))[0] == 404
    assert page.answer.result() == (action, "alice|keys")


@pytest.mark.parametrize("key", ["", "key-bob", "key-wrong", "nonsense", "key-alice\r\nX: y"])
async def test_without_the_key_of_the_principal_nothing_happens(site: Site, key: str) -> None:
    page = site.open()
    status, text = await site.post(page, answer="approve", key=key)
    assert status == 403
    assert "This key does not allow you to answer" in text
    assert not page.answer.done()


async def test_the_credentials_of_the_browser_count_as_a_key(site: Site) -> None:
    page = site.open()
    headers = {"Authorization": "Bearer key-alice"}
    assert 'name="key"' not in (await site.get(page, **headers))[1]
    assert (await site.post(page, headers, answer="approve"))[0] == 200
    other = site.open()
    assert (await site.post(other, {"Authorization": "Bearer key-bob"}, answer="approve"))[0] == 403
    assert (await site.post(other, {"Authorization": "Bearer key-bob"}, answer="approve", key="key-alice"))[0] == 200


async def test_approvers_are_members_of_the_groups_and_the_agent_is_none(start: Any) -> None:
    keys, pages = Keys(), QuestionPages(10)
    site = Site(await start(authenticators=[keys], pages=pages), pages)
    page = site.open(approvers=["approvers"])
    assert "Key of a member of approvers" in (await site.get(page))[1]
    assert (await site.post(page, answer="approve", key="key-alice"))[0] == 403
    keys.groups = ["approvers"]
    assert (await site.post(page, answer="approve", key="key-carol"))[0] == 200
    assert page.answer.result() == ("accept", "carol|keys")


async def test_a_group_named_like_the_operator_opens_no_page(start: Any) -> None:
    keys, pages = Keys(), QuestionPages(10)
    keys.groups = [OPERATOR.id]
    site = Site(await start(authenticators=[keys], pages=pages), pages)
    alone, among = site.open(approvers=[OPERATOR.id]), site.open(approvers=[OPERATOR.id, "approvers"])
    assert "<form" not in (await site.get(alone))[1]
    assert "Key of a member of approvers, to prove" in (await site.get(among))[1]
    for page in (alone, among):
        assert (await site.post(page, answer="approve", key="key-alice"))[0] == 403
        assert not page.answer.done()
    keys.groups = ["approvers"]
    assert (await site.post(among, answer="approve", key="key-carol"))[0] == 200


async def test_a_trusted_proxy_says_who_the_person_is(start: Any) -> None:
    pages = QuestionPages(10)
    proxies = {"networks": ["127.0.0.1"], "identity_header": "X-Forwarded-User"}
    site = Site(await start(trusted_proxies=proxies, pages=pages), pages)
    page = site.open(Principal.proven("alice", issuer="proxy"))
    assert (await site.post(page, {"X-Forwarded-User": "bob"}, answer="approve"))[0] == 403
    assert (await site.post(page, {"X-Forwarded-User": "alice"}, answer="approve"))[0] == 200
    assert page.answer.result() == ("accept", "alice|proxy")


async def test_a_typed_key_counts_before_the_login_of_a_proxy(start: Any) -> None:
    keys, pages = Keys(), QuestionPages(10)
    keys.groups = ["approvers"]
    proxies = {"networks": ["127.0.0.1"], "identity_header": "X-Forwarded-User"}
    site = Site(await start(authenticators=[keys], trusted_proxies=proxies, pages=pages), pages)
    page, alice = site.open(approvers=["approvers"]), {"X-Forwarded-User": "alice"}
    assert (await site.post(page, alice, answer="approve"))[0] == 403
    assert (await site.post(page, alice, answer="approve", key="key-wrong"))[0] == 403
    assert (await site.post(page, alice, answer="approve", key="key-carol"))[0] == 200
    assert page.answer.result() == ("accept", "carol|keys")


async def test_another_configuration_says_who_may_answer(site: Site) -> None:
    page, app = site.open(), site.world.downstream._app
    app._questions.use(Authentication(Chain([]).authenticators, TrustedProxies(TrustedProxiesConfig()), anonymous=True))
    assert (await site.post(page, answer="approve", key="key-alice"))[0] == 403
    assert not page.answer.done()


async def test_on_this_machine_an_agent_that_proves_nothing_needs_no_key(site: Site) -> None:
    page = site.open(CLAIMED)
    assert 'name="key"' not in (await site.get(page))[1]
    assert (await site.post(page, answer="approve", key="wrong"))[0] == 403, "a wrong key is not ignored"
    assert (await site.post(page, answer="approve"))[0] == 200
    assert page.answer.result() == ("accept", "")


async def test_a_gateway_that_others_reach_meanwhile_takes_no_answer_without_proof(site: Site) -> None:
    page = site.open(CLAIMED)
    site.pages.serve_at(lambda: str(site.world.base), lambda: False)  # as after a reload
    assert 'name="key"' in (await site.get(page))[1]
    assert (await site.post(page, answer="approve"))[0] == 403
    assert not page.answer.done()


async def test_a_page_that_has_lapsed_is_gone(site: Site) -> None:
    page = site.open(seconds=0.05)
    async with asyncio.timeout(20):
        while len(site.pages):
            await asyncio.sleep(0.01)
    assert (await site.get(page))[0] == (await site.post(page, answer="approve", key="key-alice"))[0] == 404


@pytest.mark.parametrize(
    ("headers", "data", "status"),
    [
        ({}, b"answer=maybe&key=key-alice", 400),
        ({}, b"key=key-alice", 400),
        ({}, b"answer=approve&answer=decline&key=key-alice", 400),
        ({}, b"answer=%ff&key=key-alice", 400),
        ({}, b"\xff", 400),
        ({}, b"&".join(b"a%d=1" % number for number in range(20)), 400),
        ({}, b"answer=approve&key=" + b"x" * 9000, 413),
        ({"Content-Type": "text/plain"}, b"answer=approve&key=key-alice", 415),
        ({"Sec-Fetch-Site": "cross-site"}, b"answer=approve&key=key-alice", 403),
        ({"Sec-Fetch-Site": "same-site"}, b"answer=approve&key=key-alice", 403),
        ({"Origin": "https://evil.example"}, b"answer=approve&key=key-alice", 403),
        ({"Origin": "null"}, b"answer=approve&key=key-alice", 403),
        ({"Host": "evil.example"}, b"answer=approve&key=key-alice", 403),
    ],
)
async def test_what_is_no_answer_of_the_page_is_refused(
    site: Site, headers: dict[str, str], data: bytes, status: int
) -> None:
    page = site.open()
    given = {"Content-Type": "application/x-www-form-urlencoded", **headers}
    async with site.world.http.post(site.pages.url(page), data=data, headers=given) as response:
        assert response.status == status
    assert not page.answer.done()


async def test_other_addresses_and_methods(site: Site) -> None:
    page = site.open()
    for path in (
        QUESTION_PAGES,
        f"{QUESTION_PAGES}unknown",
        f"{QUESTION_PAGES}{page.token}x",
        f"{QUESTION_PAGES}{page.token}/more",
    ):
        async with site.world.http.get(f"{site.world.base}{path}") as response:
            assert response.status == 404
            assert "not valid any more" in await response.text()
    for method in ("PUT", "DELETE", "HEAD"):
        async with site.world.http.request(method, site.pages.url(page)) as response:
            assert response.status == 405
    assert not page.answer.done()


async def test_guesses_of_keys_have_to_wait(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_core.downstream.auth.authentication.REFUSAL_BURST", 2.0)
    page = site.open()
    for number in range(5):
        assert (await site.post(page, answer="approve", key=f"guess-{number}"))[0] == 403
    status, text = await site.post(page, answer="approve", key="key-alice")
    assert status == 403
    assert "too many credentials from this address were refused. Try again later" in text
    assert not page.answer.done()


async def test_a_gateway_without_pages_has_no_such_address(world: Any) -> None:
    async with world.http.get(f"{world.base}{QUESTION_PAGES}x") as response:
        assert response.status == 404
        assert response.content_type == "application/json"
    assert isinstance(world.http, aiohttp.ClientSession)
