"""Chat in a real browser: streamed, stopped, charged, remembered in its tab, and safe whatever a model writes."""

import json
import re
from collections.abc import Iterator

import httpx2
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.support.browser import axe, console_errors, cookies_of, open_page
from tests.support.server import RunningServer

pytestmark = pytest.mark.browser

CHAT = "/orgs/acme/chat"


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with RunningServer(args=["--pace", "0.1"]) as running:
        yield running


@pytest.fixture(scope="module")
def cookies(server: RunningServer, browser: Browser) -> dict[str, list]:
    """Each signed in once, by their one-time link."""
    return {role: cookies_of(browser, server, role) for role in ("admin", "member")}


@pytest.fixture
def failing_page(server: RunningServer, browser: Browser, cookies) -> Iterator[Page]:
    """The member's, at first on Chat; at the end only failed requests were in the console."""
    with open_page(browser, base_url=server.base_url) as opened:
        errors = console_errors(opened)
        opened.context.add_cookies(cookies["member"])
        opened.goto(CHAT)
        yield opened
        assert [error for error in errors if "/completions" not in error] == []


@pytest.fixture
def page(failing_page: Page) -> Iterator[Page]:
    """The same, and no call of the page's script failed."""
    failed: list[str] = []
    failing_page.on("requestfailed", lambda request: failed.append(request.url))
    failing_page.on("response", lambda response: response.ok or failed.append(response.url))
    yield failing_page
    # A page that is left in a hurry gives up its icon.
    assert [url for url in failed if "/chat/" in url] == []


def say(page: Page, text: str) -> None:
    page.get_by_label("Message").fill(text)
    page.get_by_label("Message").press("Enter")


def answers(page: Page):
    return page.locator('[data-part="answer"]')


def fulfil(route: Route, text: str) -> None:
    """Answers in the gateway's place with what a model could write."""
    chunks = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in re.findall(r"(?s).{1,7}", text)]
    events = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
    route.fulfill(status=200, headers={"content-type": "text/event-stream"}, body=events)


def generation(server: RunningServer, page: Page) -> dict:
    """What the API says of the latest answer."""
    identity = page.get_by_role("link", name="In Activity").last.get_attribute("href").partition("#")[2]
    answer = httpx2.get(
        f"{server.api_base}/generation", params={"id": identity}, headers={"Authorization": f"Bearer {server.api_key}"}
    )
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def test_an_answer_shows_its_model_tokens_speed_and_cost_and_leads_to_its_row_in_the_activity(
    server: RunningServer, page: Page
):
    say(page, "Tell me about leases")
    facts = page.locator(".b-facts")
    expect(facts).to_contain_text(re.compile(r"demo.*→.*tokens.*tok/s.*\$0\.000", re.DOTALL))
    found = generation(server, page)
    assert page.locator('[data-part="cost"]').get_attribute("title") == f"${found['total_cost']:.9f}".rstrip("0")
    assert f"{found['tokens_prompt']} → {found['tokens_completion']} tokens" in facts.inner_text()
    assert (found["app_id"], found["streamed"], found["cancelled"]) == (None, True, False)
    expect(page.locator("#chat-total")).to_contain_text(
        f"{found['tokens_prompt'] + found['tokens_completion']} tokens · $"
    )
    page.get_by_role("link", name="In Activity").click()
    expect(page.locator(f"tr:target[id='{found['id']}']")).to_contain_text("Chat")


def test_an_answer_grows_while_it_is_written_and_stopping_it_charges_what_came(
    server: RunningServer, failing_page: Page
):
    page = failing_page
    say(page, "[[tokens:4000]] A very long story")
    growing = answers(page).first
    expect(growing).to_contain_text(re.compile(r"\w+ \w+ \w+"))
    before = growing.inner_text()
    page.wait_for_function(
        "length => document.querySelector('[data-part=answer]').textContent.length > length", arg=len(before)
    )
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".b-facts")).to_contain_text("stopped")
    found = generation(server, page)
    assert found["cancelled"] is True
    assert 0 < found["tokens_completion"] < 4000
    assert found["total_cost"] > 0
    expect(page.get_by_role("button", name="Send")).to_be_visible()


def test_the_conversation_goes_along_and_stays_in_this_tab_until_a_new_chat(page: Page, browser: Browser, cookies):
    sent: list[dict] = []
    page.on("request", lambda request: request.method == "POST" and sent.append(request.post_data_json))
    say(page, "My name is Tomás")
    expect(page.get_by_role("link", name="In Activity")).to_have_count(1)
    say(page, "What is my name?")
    expect(page.get_by_role("link", name="In Activity")).to_have_count(2)
    roles = [message["role"] for message in sent[1]["messages"]]
    assert roles == ["user", "assistant", "user"]
    total = page.locator("#chat-total").inner_text()
    page.reload()
    expect(answers(page)).to_have_count(2)
    assert page.locator("#chat-total").inner_text() == total
    with open_page(browser, base_url=page.url.partition("/orgs")[0]) as other:
        other.context.add_cookies(cookies["member"])
        other.goto(CHAT)
        expect(answers(other)).to_have_count(0)
    page.goto("/personal/chat")
    expect(answers(page)).to_have_count(0)
    page.goto(CHAT)
    page.get_by_role("button", name="New chat").click()
    expect(answers(page)).to_have_count(0)
    page.reload()
    expect(answers(page)).to_have_count(0)
    assert page.evaluate("Object.values(sessionStorage).join().includes('Tomás')") is False


def test_signing_out_leaves_no_conversation_in_the_tab(server: RunningServer, browser: Browser):
    with open_page(browser, base_url=server.base_url) as page:
        page.goto("/sign-up")
        page.get_by_label("Name").fill("Sofia")
        page.get_by_label("E-mail").fill("sofia@example.com")
        page.get_by_label("Password").fill("a long enough password")
        page.get_by_role("button", name="Sign up").click()
        page.goto("/sign-in")
        page.get_by_label("E-mail").fill("sofia@example.com")
        page.get_by_label("Password").fill("a long enough password")
        page.get_by_role("button", name="Sign in").click()
        expect(page).to_have_url(re.compile("/personal/"))
        page.goto("/personal/chat?model=demo/free-1")
        say(page, "A secret")
        expect(page.get_by_role("link", name="In Activity")).to_have_count(1)
        assert "A secret" in page.evaluate("Object.values(sessionStorage).join()")
        page.locator(".b-user summary").click()
        page.get_by_role("button", name="Sign out").click()
        expect(page).to_have_url(re.compile("/sign-in"))
        assert page.evaluate("sessionStorage.length") == 0


def test_a_model_is_found_and_chosen_by_keyboard_and_remembered(page: Page):
    page.locator("#chat-models summary").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Search models")).to_be_focused()
    page.keyboard.type("schol")
    expect(page.locator("#chat-choices label:visible")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page.locator("#chat-models summary")).to_contain_text("Demo: Scholar 1$3.00 in · $15.00 out")
    expect(page.get_by_label("Message")).to_be_focused()
    page.keyboard.type("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    page.keyboard.press("Enter")
    expect(page.locator('[data-part="question"]')).to_have_text("one\ntwo")
    expect(page.locator('[data-part="model"]')).to_have_text("demo/scholar-1")
    expect(page.get_by_role("link", name="In Activity")).to_have_count(1)
    page.get_by_role("button", name="New chat").click()
    page.goto("/orgs/acme/models")
    page.goto(CHAT)
    expect(page.locator("#chat-models summary")).to_contain_text("Demo: Scholar 1")
    page.goto(f"{CHAT}?model=demo/free-1")
    expect(page.locator("#chat-models summary")).to_contain_text("Demo: Free 1")


def test_system_prompt_and_options_are_sent_and_a_wrong_one_is_not(page: Page):
    sent: list[dict] = []
    page.on("request", lambda request: request.method == "POST" and sent.append(request.post_data_json))
    page.get_by_text("Options", exact=True).click()
    page.get_by_label("System prompt").fill("Answer in one word.")
    page.get_by_label("Tokens at most").fill("many")
    page.get_by_label("Temperature").fill("0.5")
    page.keyboard.press("Escape")
    say(page, "Hello")
    expect(page.get_by_label("Tokens at most")).to_be_focused()
    assert sent == []
    page.get_by_label("Tokens at most").fill("7")
    say(page, "Hello")
    expect(page.locator(".b-facts")).to_contain_text("cut off by the token limit")
    assert sent[0] == {
        "model": "demo/echo-1",
        "stream": True,
        "messages": [{"role": "system", "content": "Answer in one word."}, {"role": "user", "content": "Hello"}],
        "max_tokens": 7,
        "temperature": 0.5,
    }


def test_an_answer_that_breaks_off_keeps_what_came_and_can_be_tried_again(page: Page):
    say(page, "[[fail:cut]] Explain leases")
    expect(page.locator('[data-part="error-text"]')).to_have_text("The provider's answer broke off.")
    expect(page.locator(".b-facts")).to_contain_text(re.compile(r"broke off.*\$0\.0", re.DOTALL))
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".b-facts")).to_contain_text("broke off")
    expect(answers(page)).to_have_count(1)
    assert axe(page) == []


def test_a_failure_before_the_first_word_costs_nothing_and_says_what_happened(failing_page: Page):
    page = failing_page
    page.route("**/chat/completions", lambda route: route.abort())
    say(page, "Hello")
    expect(page.locator('[data-part="error-text"]')).to_have_text("The connection to Bursar broke off.")
    page.unroute("**/chat/completions")
    page.evaluate("document.getElementById('message').maxLength = 10")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("link", name="In Activity")).to_have_count(1)
    expect(page.locator('[data-part="error"]:visible')).to_have_count(0)


def test_a_member_without_credits_reads_whom_to_ask(failing_page: Page):
    page = failing_page
    refusal = {
        "code": 402,
        "message": "Insufficient credits: $0.00 are available. Add credits at https://bursar.example/credits.",
        "metadata": {"remedy_hint": "Add credits at https://bursar.example/credits."},
    }
    page.route(
        "**/chat/completions",
        lambda route: route.fulfill(status=402, json={"error": refusal}),
    )
    say(page, "Hello")
    error = page.locator('[data-part="error"]')
    expect(error).to_contain_text("Insufficient credits: $0.00 are available.")
    expect(error).to_contain_text("Only an admin can add credits. Ask Ana Ruiz (ana@example.com).")
    expect(error).not_to_contain_text("bursar.example")


NASTY = """\
# Title

### Deep

**bold** and *thin* and `let x = "<b>"`, AT&amp;T, [good](https://example.com/a?b=1), [bad](javascript:alert(1)),
[worse](JaVaScRiPt:alert(1)) and [data](data:text/html,hi) ![pixel](https://evil.example/p.png)

<img src=x onerror="document.title='owned'"> <script>document.title = 'owned'</script>

<iframe src="https://evil.example"></iframe>

- one
- [x] done
  1. nested

> quoted

| name | value |
|------|------:|
| a    |     1 |

```python"><script>alert(1)</script>
print("<i>&amp;</i>")
```
"""


def test_markdown_is_shown_as_elements_and_nothing_in_it_is_run_or_loaded(page: Page):
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.route("**/chat/completions", lambda route: fulfil(route, NASTY))
    say(page, "Show me everything")
    answer = answers(page).first
    expect(answer.locator("pre code")).to_have_text('print("<i>&amp;</i>")')
    expect(answer.locator("table td").last).to_have_text("1")
    expect(answer.locator("h3")).to_have_text("Title")
    expect(answer.locator("h4")).to_have_text("Deep")
    expect(answer.locator("strong")).to_have_text("bold")
    expect(answer).to_contain_text('let x = "<b>"')
    expect(answer).to_contain_text("AT&T")
    expect(answer).to_contain_text("<script>document.title = 'owned'</script>")
    links = [link.get_attribute("href") for link in answer.locator("a").all()]
    assert links == ["https://example.com/a?b=1", "https://evil.example/p.png"]
    assert answer.locator("img, script, iframe, [onerror]").count() == 0
    assert page.title().startswith("Chat")
    assert not any("evil" in url for url in asked)
    assert axe(page) == []


def test_a_code_block_is_copied_and_the_blocks_before_the_last_are_left_alone(page: Page):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.route("**/chat/completions", lambda route: fulfil(route, "First.\n\n```\nmake run\n```\n\nThe end."))
    say(page, "How do I start?")
    page.get_by_role("button", name="Copy code").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == "make run"
    kept = page.evaluate(
        """() => {
            const place = document.createElement("div");
            renderProse(place, "One *two*\\n\\nthr");
            const first = place.firstElementChild;
            renderProse(place, "One *two*\\n\\nthree\\n\\n# Four");
            return [place.firstElementChild === first, place.textContent, place.children.length];
        }"""
    )
    assert kept == [True, "One twothreeFour", 3]


def test_whoever_was_signed_out_elsewhere_is_led_to_the_sign_in_and_keeps_the_question(failing_page: Page):
    page = failing_page
    page.context.clear_cookies()
    with page.expect_response("**/chat/completions") as answered:
        say(page, "Hello")
    assert answered.value.status == 401
    expect(page.locator('[data-part="error-text"]')).to_contain_text("You are not signed in any more.")
    expect(page.get_by_role("link", name="Sign in")).to_have_attribute("href", "/sign-in?next=/orgs/acme/chat")
    expect(page.locator('[data-part="question"]')).to_have_text("Hello")


def test_without_javascript_a_question_is_sent_as_a_form(server: RunningServer, browser: Browser, cookies):
    with open_page(browser, java_script_enabled=False, viewport="phone", base_url=server.base_url) as page:
        page.context.add_cookies(cookies["member"])
        page.goto(CHAT)
        page.locator("#chat-models summary").click()
        page.get_by_label("Demo: Scholar 1").check()
        page.get_by_label("Message").fill("Tell me about leases")
        page.get_by_role("button", name="Send").click()
        expect(page.locator("#chat-log")).to_contain_text("Tell me about leases")
        expect(page.locator("#chat-log .b-facts")).to_contain_text(re.compile(r"→ \d+ tokens"))
        expect(page.locator("#chat-log h2").last).to_contain_text("demo/scholar-1")
        expect(page.get_by_label("Demo: Scholar 1")).to_be_checked()
        page.get_by_role("link", name="In Activity").click()
        expect(page.locator("tr:target")).to_contain_text("Chat")


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", ["desktop", "phone"])
def test_a_conversation_is_accessible_and_as_wide_as_its_window(
    server: RunningServer, browser: Browser, cookies, color_scheme: str, viewport: str
):
    with open_page(browser, color_scheme=color_scheme, viewport=viewport, base_url=server.base_url) as page:
        errors = console_errors(page)
        page.context.add_cookies(cookies["admin"])
        page.goto(CHAT)
        page.route("**/chat/completions", lambda route: fulfil(route, NASTY + "\n" + "x" * 300))
        say(page, "y" * 300)
        expect(answers(page)).to_contain_text("xxx")
        page.unroute("**/chat/completions")
        say(page, "[[fail:cut]] And now?")
        expect(page.get_by_role("button", name="Try again")).to_be_visible()
        for menu in ("#chat-models summary", ".b-options summary"):
            page.locator(menu).click()
            assert axe(page) == [], menu
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), menu
            page.keyboard.press("Escape")
        assert axe(page) == []
        assert errors == []
