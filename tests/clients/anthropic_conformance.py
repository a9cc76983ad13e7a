"""The official `anthropic` client, unmodified but for the base URL. Run by `test_conformance.py` in an environment of its own."""

import anthropic
from _cases import (
    API_BASE,
    API_KEY,
    ASKED,
    BROKE_KEY,
    BUSY,
    BUSY_SENTENCE,
    CROWDED_KEY,
    FORECAST,
    MADE_UP_KEY,
    MANAGEMENT_KEY,
    MODEL,
    PIXEL,
    PLACE,
    PRIME,
    PRIME_COST,
    QUESTION,
    SEEN,
    SENTENCE,
    SONNET,
    SONNET_COST,
    THOUGHT,
    TOO_LARGE,
    case,
    near,
    run,
    same,
    thrown,
)
from pydantic import BaseModel

BASE = API_BASE.removesuffix("/v1")
TOOL = {"name": "weather", "description": "The weather at a place", "input_schema": PLACE}

client = anthropic.Anthropic(base_url=BASE, auth_token=API_KEY)
once = client.with_options(max_retries=0)
crowded = once.with_options(auth_token=CROWDED_KEY)
management, broke, made_up = (client.with_options(auth_token=key) for key in (MANAGEMENT_KEY, BROKE_KEY, MADE_UP_KEY))


class Forecast(BaseModel):
    place: str
    celsius: int


def ask(client=client, **more):
    return client.messages.create(**{"model": MODEL, "max_tokens": 500, "messages": QUESTION, **more})


def streamed(**more):
    with client.messages.stream(**{"model": MODEL, "max_tokens": 500, "messages": QUESTION, **more}) as stream:
        return stream.get_final_message()


def kinds(message):
    return [block.type for block in message.content]


def text(message):
    return "".join(block.text for block in message.content if block.type == "text")


@case("messages.whole")
def _():
    raw = client.messages.with_raw_response.create(model=MODEL, max_tokens=500, messages=QUESTION)
    message = raw.parse()
    same((message.id[:4], raw.headers["x-generation-id"]), ("gen-", message.id))
    same((message.type, message.role, message.model, message.stop_reason), ("message", "assistant", MODEL, "end_turn"))
    same((kinds(message), len(text(message)) > 20), (["text"], True))
    assert message.usage.input_tokens > 0
    assert message.usage.output_tokens > 0
    assert 0 < message.usage.cost < 0.001
    same(ask(max_tokens=3).stop_reason, "max_tokens")


@case("messages.stream")
def _():
    whole, events = ask(), list(ask(stream=True))
    names = [event.type for event in events]
    same(names[:2], ["message_start", "content_block_start"])
    same(names[-3:], ["content_block_stop", "message_delta", "message_stop"])
    same(set(names[2:-3]), {"content_block_delta"})
    same(next(event for event in events if event.type == "message_delta").usage.cost, whole.usage.cost)
    with client.messages.stream(model=MODEL, max_tokens=500, messages=QUESTION) as stream:
        said, message = "".join(stream.text_stream), stream.get_final_message()
    same((said, text(message), message.stop_reason), (text(whole), text(whole), "end_turn"))
    same(
        (message.usage.input_tokens, message.usage.output_tokens), (whole.usage.input_tokens, whole.usage.output_tokens)
    )
    same(streamed(max_tokens=3).stop_reason, "max_tokens")


@case("messages.system")
def _():
    loud = [{"type": "text", "text": "Be LOUD", "cache_control": {"type": "ephemeral"}}]
    blocks = [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    for model in (PRIME, SONNET):
        more = {"metadata": {"user_id": "u-1"}, "stop_sequences": ["END"], "extra_body": {"temperature": 0.5}}
        same(text(ask(model=model, system=loud, messages=blocks, **more)), SENTENCE.upper())


def talk(turn, model, **more):
    first = turn(model=model, messages=ASKED, tools=[TOOL], **more)
    same((kinds(first), first.stop_reason), (["thinking", "text", "tool_use", "tool_use"], "tool_use"))
    same(first.content[0].thinking, THOUGHT)
    calls = first.content[2:]
    same([(call.name, call.input) for call in calls], [("weather", {"place": "Rome"}), ("weather", {"place": "Oslo"})])
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": call.id} for call in calls]
    conversation = [
        *ASKED,
        {"role": "assistant", "content": [block.to_dict() for block in first.content]},
        {"role": "user", "content": results},
    ]
    last = turn(model=model, messages=conversation, tools=[TOOL], **more)
    same((text(last), last.stop_reason), (f"The tool says: {calls[0].id}, {calls[1].id}", "end_turn"))


@case("messages.tools")
def _():
    talk(ask, SONNET, max_tokens=4000, thinking={"type": "enabled", "budget_tokens": 2000})
    talk(ask, PRIME, output_config={"effort": "high"})


@case("messages.tools_stream")
def _():
    talk(streamed, SONNET, max_tokens=4000, thinking={"type": "enabled", "budget_tokens": 2000})
    talk(streamed, PRIME, output_config={"effort": "high"})


@case("messages.schema")
def _():
    for model in (PRIME, SONNET):
        answer = client.messages.parse(model=model, max_tokens=500, messages=QUESTION, output_format=Forecast)
        same(answer.parsed_output, Forecast(**FORECAST))


@case("messages.images")
def _():
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
    asked = [{"role": "user", "content": [image, {"type": "text", "text": "What is it?"}]}]
    for model in (PRIME, SONNET):
        same(text(ask(model=model, messages=asked)), SEEN)


@case("messages.thinking")
def _():
    for turn in (ask, streamed):
        message = turn(model=SONNET, max_tokens=4000, thinking={"type": "enabled", "budget_tokens": 2000})
        same(kinds(message), ["thinking", "text"])
        same((message.content[0].thinking, message.content[0].signature), (THOUGHT, "c2lnbmVk"))


@case("messages.usage")
def _():
    for model, tokens, cost in ((SONNET, [600, 300, 100, 200], SONNET_COST), (PRIME, [700, 300, 0, 200], PRIME_COST)):
        whole = ask(model=model).usage
        last = next(event for event in ask(model=model, stream=True) if event.type == "message_delta").usage
        for usage in (whole, last, streamed(model=model).usage):
            read, written = usage.cache_read_input_tokens, usage.cache_creation_input_tokens
            same([usage.input_tokens, read, written, usage.output_tokens], tokens)
        near(whole.cost, cost)
        near(last.cost, cost)  # the helper's final message drops what Anthropic does not have


@case("messages.keys")
def _():
    same(ask(anthropic.Anthropic(base_url=BASE, api_key=API_KEY)).type, "message")
    headers = {"X-Api-Key": API_KEY, "Authorization": anthropic.Omit()}
    same(ask(client.with_options(default_headers=headers)).type, "message")


def refused(work):
    """Type and status of the exception and Anthropic's word; the body is Anthropic's envelope."""
    error = thrown(work, anthropic.APIStatusError)
    same(error.body["type"], "error")
    assert error.body["error"]["message"]
    assert error.body["request_id"].startswith("gen-")
    return type(error).__name__, error.status_code, error.body["error"]["type"]


@case("messages.broken")
def _():
    stream = ask(once, messages=[{"role": "user", "content": "[[fail:cut]]"}], stream=True)
    told = thrown(lambda: list(stream), anthropic.APIStatusError).body["error"]
    same((told["type"], told["message"]), ("api_error", "The provider's answer broke off."))


@case(
    "messages.count_tokens",
    differs="Refused with 404 and a sentence: only a provider can count its tokens; `usage` has the counts of each answer.",
)
def _():
    seen = refused(lambda: client.messages.count_tokens(model=MODEL, messages=QUESTION))
    same(seen, ("NotFoundError", 404, "not_found_error"))


@case("errors.400")
def _():
    for work in (
        lambda: ask(model="demo/eco-1"),
        lambda: ask(messages=[{"role": "user", "content": [{"type": "odd"}]}]),
        lambda: ask(tools=[{"type": "web_search_20250305", "name": "web_search"}]),
    ):
        same(refused(work), ("BadRequestError", 400, "invalid_request_error"))


@case("errors.401")
def _():
    same(refused(lambda: ask(made_up)), ("AuthenticationError", 401, "authentication_error"))


@case("errors.402")
def _():
    for work in (lambda: ask(broke), lambda: ask(broke, stream=True)):
        same(refused(work), ("PaymentRequiredError", 402, "billing_error"))


@case("errors.403")
def _():
    same(refused(lambda: ask(management)), ("PermissionDeniedError", 403, "permission_error"))


@case("errors.404")
def _():
    same(refused(lambda: ask(extra_body={"provider": {"only": ["nobody"]}})), ("NotFoundError", 404, "not_found_error"))


@case("errors.413")
def _():
    seen = refused(lambda: ask(messages=[{"role": "user", "content": TOO_LARGE}]))
    same(seen, ("ContentTooLargeError", 413, "invalid_request_error"))


@case("errors.busy", differs=BUSY_SENTENCE)
def _():
    same(refused(lambda: ask(once, model=BUSY)), ("ServiceUnavailableError", 503, "overloaded_error"))


def failing(how):
    return lambda: ask(once, messages=[{"role": "user", "content": f"[[fail:{how}]]"}])


@case("errors.429")
def _():
    same(refused(lambda: ask(crowded)), ("RateLimitError", 429, "rate_limit_error"))


@case("errors.502")
def _():
    same(refused(failing("500"))[1:], (502, "api_error"))


@case("errors.503")
def _():
    same(refused(failing("503")), ("ServiceUnavailableError", 503, "overloaded_error"))
    same(refused(failing("timeout")), ("GatewayTimeoutError", 504, "timeout_error"))


run(anthropic.__version__)
