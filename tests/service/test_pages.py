"""A person at the pages, in a real browser: sign in, approve, deny, filter, clear; on a phone and in the dark."""

from __future__ import annotations

import os
import re
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.chromium import SIZES
from tests.service.world import HELD, WORKER, a_request, ask, demo, token
from wcp_attest import TrustedKey

if TYPE_CHECKING:
    from tests.service.world import World


def signed_in(browser: Any, world: World, who: str, *, size: str = "desktop", scheme: str = "light") -> Any:
    page = browser.new_page(viewport=SIZES[size], color_scheme=scheme, java_script_enabled=True)
    page.set_default_timeout(8000)
    page.goto(f"{world.base}/")
    assert page.url.endswith("/signin")
    page.get_by_label("Token").fill(token(who))
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{world.base}/")
    return page


def hold(world: World) -> str:
    body = a_request(capability_id=HELD, correlation_id=str(uuid.uuid4()))
    found: str = world("POST", "/wcp/route", "acme", body).json()["pending_approval_id"]
    return found


@pytest.mark.parametrize(("decision", "state"), [("Approve", "approved"), ("Deny", "denied")])
def test_a_person_answers_a_hold(browser: Any, world: World, decision: str, state: str) -> None:
    pending = hold(world)
    page = signed_in(browser, world, "ada")
    page.get_by_role("link", name="Approvals").click()
    box = page.locator("article", has=page.locator(f'input[value="{pending}"]'))
    assert "What the worker declares" in box.inner_text()
    assert "Network\nnone" in box.inner_text()
    box.get_by_label("Reason").fill("looked at it")
    box.get_by_role("button", name=decision).click()
    page.wait_for_url(f"{world.base}/approvals")
    assert world("GET", f"/wcp/approvals/{pending}", "acme").json()["state"] == state
    page.close()


def test_enter_in_a_reason_answers_nothing_and_each_button_says_what_it_is_about(browser: Any, world: World) -> None:
    pending = hold(world)
    page = signed_in(browser, world, "ada")
    page.goto(f"{world.base}/approvals")
    box = page.locator("article", has=page.locator(f'input[value="{pending}"]'))
    box.get_by_label("Reason").fill("looked at it")
    box.get_by_label("Reason").press("Enter")
    page.get_by_role("link", name="Overview").focus()  # the browser has taken the key by then
    assert world("GET", f"/wcp/approvals/{pending}", "acme").json()["state"] == "pending"
    about = box.get_by_role("button", name="Approve").get_attribute("aria-describedby")
    assert page.locator(f"#{about}").inner_text() == f"{HELD} by {WORKER}"
    box.get_by_label("Reason").press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # on the second button
    page.wait_for_url(f"{world.base}/approvals")
    assert world("GET", f"/wcp/approvals/{pending}", "acme").json()["state"] == "denied"
    page.close()


def test_what_others_wrote_neither_widens_a_page_nor_turns_its_text_round(browser: Any, world: World) -> None:
    odd = "gnp\u202eexe.\x1b[31m\u200b" + "W" * 300
    world("PUT", "/admin/quarantine/org.acme." + "w" * 100, "olga", {"reason": odd})
    report = {"sha256": "cd" * 32, "reason": odd, "evidence_url": "javascript:alert(1)//" + "u" * 300}
    assert world("POST", "/api/v1/ban-list/report", "rita", report).status_code == 202
    answer = {"pending_approval_id": hold(world), "decision": "deny", "reason": odd}
    assert world("POST", "/wcp/approvals/resolve", "ada", answer).status_code == 200
    hold(world)
    page = signed_in(browser, world, "rita", size="phone")
    for path in ("/approvals", "/bans", "/workers"):
        page.goto(world.base + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= SIZES["phone"]["width"], path
        text = page.locator("main").inner_text()
        assert "gnp\\u202eexe.\\x1b[31m\\u200b" in text
        assert "\u202e" not in text
    assert page.locator("main a[href^=javascript]").count() == 0
    page.goto(f"{world.base}/approvals")
    assert "Only an approver can answer." in page.locator("main").inner_text()
    page.goto(f"{world.base}/workers?worker=org.acme.ww")
    assert page.locator("tbody tr").count() == 1
    page.close()
    world("DELETE", "/admin/quarantine/org.acme." + "w" * 100, "olga")


def test_the_demo_is_what_its_page_says(browser: Any, tmp_path: Path) -> None:
    with demo(tmp_path / "hall") as started:
        base, _, tokens = started.begun()
        platform = {"authorization": f"Bearer {tokens['platform']}"}
        held = ask(base, tokens["platform"], "cap.pay.transfer")
        page = browser.new_page()
        page.set_default_timeout(8000)
        page.goto(base)
        page.get_by_label("Token").fill(tokens["ada"])
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("link", name="Approvals").click()
        page.get_by_label("Reason").fill("looked at it")
        page.get_by_role("button", name="Approve").click()
        page.wait_for_url(f"{base}/approvals")
        polled = httpx.get(f"{base}/wcp/approvals/{held['pending_approval_id']}", headers=platform, timeout=30).json()
        assert polled["state"] == "approved"
        page.close()


def test_decisions_are_filtered_and_opened(browser: Any, world: World) -> None:
    world("POST", "/wcp/route", "acme", a_request(correlation_id=str(uuid.uuid4())))
    page = signed_in(browser, world, "rita")
    page.get_by_role("link", name="Decisions").click()
    page.get_by_label("Outcome").fill("DISPATCH")
    page.get_by_role("button", name="Filter").click()
    rows = page.locator("tbody tr")
    assert rows.count() > 0
    assert {text.strip() for text in page.locator("tbody tr td:nth-child(2)").all_text_contents()} == {"DISPATCH"}
    rows.first.get_by_role("link").click()
    assert '"outcome": "DISPATCH"' in page.locator("pre").first.inner_text()
    checks = page.get_by_role("region", name="Checks").locator("tbody tr")
    assert checks.count() > 3
    assert "attest" in " ".join(checks.locator("td:first-child").all_text_contents())
    page.close()


def test_an_operator_clears_a_quarantine_and_a_reader_cannot(browser: Any, world: World) -> None:
    world("POST", "/wcp/route", "acme", a_request(correlation_id=str(uuid.uuid4())))
    world("PUT", f"/admin/quarantine/{WORKER}", "olga", {"reason": "odd <script>alert(1)</script>"})
    reader = signed_in(browser, world, "rita")
    reader.get_by_role("link", name="Workers").click()
    assert "<script>alert(1)</script>" in reader.locator("tbody").inner_text()  # shown, not run
    assert reader.get_by_role("row", name=WORKER).get_by_role("link", name="DISPATCH").count() == 1
    assert str(TrustedKey.from_file_bytes(world.signer.public_pem()).key_id) in reader.locator("tbody").inner_text()
    reader.get_by_role("button", name=re.compile("Clear")).click()
    assert reader.get_by_role("alert").count() == 1
    page = signed_in(browser, world, "olga")
    page.get_by_role("link", name="Workers").click()
    page.get_by_role("button", name=re.compile("Clear")).click()
    page.wait_for_url(f"{world.base}/workers")
    assert "active" in page.locator("tbody").inner_text()
    reader.close()
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_every_page_can_be_read_by_everybody(browser: Any, world: World, size: str, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    hold(world)
    page = signed_in(browser, world, "ada", size=size, scheme=scheme)
    for path in ("/", "/decisions", "/approvals", "/workers", "/bans"):
        page.goto(world.base + path)
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= SIZES[size]["width"], f"{path} is wider than the screen"
        found = page.evaluate_handle("1") and Axe().run(page)
        assert not found.response["violations"], [one["id"] for one in found.response["violations"]]
        if shots := os.environ.get("WCP_SCREENSHOTS"):
            page.screenshot(
                path=Path(shots) / f"hall-{path.strip('/') or 'overview'}-{size}-{scheme}.png",
                full_page=size == "desktop",
            )
    page.close()


def test_the_overview_tells_what_was_decided_and_times_filter(browser: Any, world: World) -> None:
    world("POST", "/wcp/route", "acme", a_request(capability_id="cap.none.here", correlation_id=str(uuid.uuid4())))
    page = signed_in(browser, world, "rita")
    assert page.get_by_role("img", name=re.compile("Decisions by hour")).count() == 1
    page.get_by_role("link", name=re.compile("DENY_NO_MATCHING_RULE|DENY_")).first.click()
    assert page.locator("tbody tr td:nth-child(3)").first.inner_text().startswith("DENY_")
    page.goto(f"{world.base}/decisions?until=2020-01-01")
    assert page.locator("tbody").inner_text() == "Nothing fits."
    page.goto(f"{world.base}/decisions?since=nonsense")
    assert "give times like" in page.get_by_role("alert").inner_text()
    page.close()


def test_forms_of_another_site_and_of_no_session_are_refused(world: World) -> None:
    pending = hold(world)
    with httpx.Client(base_url=world.base) as client:
        assert client.post("/signin", data={"token": token("ada")}).status_code == 303
        cookie = next(iter(client.cookies.jar))
        assert cookie.has_nonstandard_attr("HttpOnly")
        assert not cookie.secure
        behind_tls = {"origin": world.base.replace("http:", "https:")}
        assert (
            "; Secure" in client.post("/signin", data={"token": token("ada")}, headers=behind_tls).headers["set-cookie"]
        )
        client.cookies.clear()
        client.post("/signin", data={"token": token("ada")})
        text = client.get("/approvals").text
        form = {"pending_approval_id": pending, "decision": "approve", "reason": "x"}
        own = {**form, "form_token": text.split('name="form_token" value="')[1].split('"')[0]}
        assert client.post("/approvals", data=form).status_code == 403
        for stranger in ("x", "é", "\x00", own["form_token"][:-1]):
            assert client.post("/approvals", data={**form, "form_token": stranger}).status_code == 403
        other = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
        assert client.post("/approvals", data=own, headers=other).status_code == 403
        assert world("GET", f"/wcp/approvals/{pending}", "acme").json()["state"] == "pending"
        assert client.post("/approvals", data=own).status_code == 303
    assert httpx.post(f"{world.base}/approvals", data=own).headers["location"] == "/signin"


def test_one_person_cannot_take_the_sessions_of_others(world: World) -> None:
    def signed_in_as(who: str) -> httpx.Client:
        client = httpx.Client(base_url=world.base)
        assert client.post("/signin", data={"token": token(who)}).status_code == 303
        return client

    other, clients = signed_in_as("ada"), [signed_in_as("rita") for _ in range(17)]
    assert [client.get("/").status_code for client in (clients[0], clients[1], clients[-1], other)] == [
        303,
        200,
        200,
        200,
    ]
    for client in (other, *clients):
        client.close()


@pytest.mark.parametrize("given", ["", "wrong", token("acme")])
def test_a_token_without_a_role_for_the_pages_opens_no_session(world: World, given: str) -> None:
    answer = httpx.post(f"{world.base}/signin", data={"token": given})
    assert (answer.status_code, "set-cookie" in answer.headers) == (401, False)


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("multipart/form-data; boundary=x", b"nonsense", 415),
        ("text/plain", b"token=token-of-ada", 415),
        ("application/x-www-form-urlencoded", b"token=token-of-ada&token=token-of-rita", 400),
        ("application/x-www-form-urlencoded; charset=utf-16", b"token=%ff%fe", 400),
        ("application/x-www-form-urlencoded", b"token=\xff", 400),
        ("application/x-www-form-urlencoded", b"&".join(b"a%d=1" % number for number in range(99)), 400),
    ],
)
def test_a_form_that_no_browser_sends_opens_no_session(world: World, kind: str, body: bytes, status: int) -> None:
    answer = httpx.post(f"{world.base}/signin", content=body, headers={"content-type": kind})
    assert (answer.status_code, "set-cookie" in answer.headers) == (status, False)


def test_the_sign_in_page_has_a_head(world: World) -> None:
    assert httpx.head(f"{world.base}/signin").status_code == 200
