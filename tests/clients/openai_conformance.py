"""The official `openai` client, unmodified but for the base URL. Run by `test_conformance.py` in an environment of its own."""

import base64
import json
import struct

import openai
from _cases import (
    API_BASE,
    API_KEY,
    BROKE_KEY,
    BUSY,
    BUSY_SENTENCE,
    CROWDED_KEY,
    EMBEDDER,
    FORECAST,
    FORMAT,
    MADE_UP_KEY,
    MANAGEMENT_KEY,
    MODEL,
    PIXEL,
    PRIME,
    PRIME_COST,
    QUESTION,
    RESPONSE_TOOL,
    SEEN,
    SENTENCE,
    SONNET,
    SONNET_COST,
    TEXT_MODELS,
    THOUGHT,
    TOO_LARGE,
    TOOL,
    case,
    near,
    run,
    same,
    thrown,
)
from pydantic import BaseModel

client = openai.OpenAI(base_url=API_BASE, api_key=API_KEY)
once = client.with_options(max_retries=0)
crowded = once.with_options(api_key=CROWDED_KEY)
management, broke, made_up = (client.with_options(api_key=key) for key in (MANAGEMENT_KEY, BROKE_KEY, MADE_UP_KEY))


class Forecast(BaseModel):
    place: str
    celsius: int


def chat(client=client, **more):
    return client.chat.completions.create(**{"model": MODEL, "messages": QUESTION, **more})


def respond(client=client, **more):
    return client.responses.create(**{"model": MODEL, "input": "Tell me about holds", **more})


def texts(chunks):
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


@case("chat.whole")
def _():
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=QUESTION)
    answer = raw.parse()
    same((answer.object, answer.model, answer.choices[0].finish_reason), ("chat.completion", MODEL, "stop"))
    same((answer.choices[0].message.role, len(answer.choices[0].message.content) > 20), ("assistant", True))
    same((answer.id[:4], raw.headers["x-generation-id"]), ("gen-", answer.id))
    assert 0 < answer.usage.cost < 0.001
    same(chat(max_tokens=3).choices[0].finish_reason, "length")


@case("chat.stream")
def _():
    whole, chunks = chat(), list(chat(stream=True))
    same(texts(chunks), whole.choices[0].message.content)
    same([n for n, chunk in enumerate(chunks) if chunk.usage is not None], [len(chunks) - 1])
    same((chunks[-1].usage.total_tokens, chunks[-1].usage.cost), (whole.usage.total_tokens, whole.usage.cost))
    same(len({chunk.id for chunk in chunks}), 1)
    with client.chat.completions.stream(model=MODEL, messages=QUESTION) as stream:
        same(stream.get_final_completion().choices[0].message.content, texts(chunks))


def called(message):
    return [
        (call.id, call.type, call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls
    ]


CALLED = [("call_1", "function", "weather", {"place": "Rome"}), ("call_2", "function", "weather", {"place": "Oslo"})]


def answered(message, turn):
    """What the model says once it has the tools' results."""
    results = [{"role": "tool", "tool_call_id": call.id, "content": call.id} for call in message.tool_calls]
    return turn(model=PRIME, messages=[*ASKED, message.to_dict(), *results], tools=[TOOL])


ASKED = [{"role": "user", "content": "What is the weather in Rome and Oslo?"}]


@case("chat.tools")
def _():
    [choice] = chat(model=PRIME, messages=ASKED, tools=[TOOL], tool_choice="auto", parallel_tool_calls=True).choices
    same((choice.finish_reason, choice.message.content), ("tool_calls", "One moment."))
    same(called(choice.message), CALLED)
    last = answered(choice.message, client.chat.completions.create).choices[0]
    same((last.message.content, last.finish_reason), ("The tool says: call_1, call_2", "stop"))


@case("chat.tools_stream")
def _():
    def turn(**request):
        with client.chat.completions.stream(**request) as stream:
            return stream.get_final_completion()

    [choice] = turn(model=PRIME, messages=ASKED, tools=[TOOL]).choices
    same((choice.finish_reason, called(choice.message)), ("tool_calls", CALLED))


@case("chat.schema")
def _():
    asked = [{"role": "user", "content": "Rome?"}]
    for model in (PRIME, SONNET):
        same(json.loads(chat(model=model, messages=asked, response_format=FORMAT).choices[0].message.content), FORECAST)
        parsed = client.chat.completions.parse(model=model, messages=asked, response_format=Forecast)
        same(parsed.choices[0].message.parsed, Forecast(**FORECAST))
        with client.chat.completions.stream(model=model, messages=asked, response_format=Forecast) as stream:
            same(stream.get_final_completion().choices[0].message.parsed, Forecast(**FORECAST))


@case("chat.reasoning")
def _():
    for more in ({"reasoning_effort": "high"}, {"extra_body": {"reasoning": {"effort": "high"}}}):
        message = chat(model=PRIME, **more).choices[0].message
        same((message.reasoning, message.content), (THOUGHT, SENTENCE))
        chunks = list(chat(model=PRIME, stream=True, **more))
        deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
        same("".join(getattr(delta, "reasoning", None) or "" for delta in deltas), THOUGHT)
        same(texts(chunks), SENTENCE)


@case("chat.images")
def _():
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    asked = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, image]}]
    for model in (PRIME, SONNET):
        same(chat(model=model, messages=asked).choices[0].message.content, SEEN)


@case("chat.logprobs")
def _():
    [choice] = chat(model=PRIME, logprobs=True, top_logprobs=2).choices
    same("".join(token.token for token in choice.logprobs.content), SENTENCE)
    same([(top.token, top.logprob) for top in choice.logprobs.content[0].top_logprobs], [("Holds", -0.5), ("?", -2.5)])
    chunks = list(chat(model=PRIME, logprobs=True, top_logprobs=2, stream=True))
    given = [choice.logprobs.content for chunk in chunks for choice in chunk.choices if choice.logprobs]
    same("".join(token.token for tokens in given for token in tokens), SENTENCE)


@case("chat.choices")
def _():
    choices = chat(model=PRIME, n=3).choices
    same([(choice.index, choice.message.content) for choice in choices], [(at, SENTENCE) for at in range(3)])
    chunks = list(chat(model=PRIME, n=2, stream=True))
    ended = [
        (choice.index, choice.finish_reason) for chunk in chunks for choice in chunk.choices if choice.finish_reason
    ]
    same(ended, [(0, "stop"), (1, "stop")])


@case("chat.usage")
def _():
    chunks = list(chat(model=PRIME, stream=True))
    for usage in (chat(model=PRIME).usage, chunks[-1].usage):
        same((usage.prompt_tokens, usage.completion_tokens, usage.total_tokens), (1000, 200, 1200))
        same((usage.prompt_tokens_details.cached_tokens, usage.completion_tokens_details.reasoning_tokens), (300, 50))
        near(usage.cost, PRIME_COST)


@case("chat.anthropic")
def _():
    asked = [{"role": "system", "content": "Be LOUD"}, *QUESTION]
    same(chat(model=SONNET, messages=asked).choices[0].message.content, SENTENCE.upper())
    answer = chat(model=SONNET, messages=ASKED, tools=[TOOL], extra_body={"reasoning": {"max_tokens": 2000}})
    [choice] = answer.choices
    same((choice.message.reasoning, choice.finish_reason), (THOUGHT, "tool_calls"))
    same([arguments for *_, arguments in called(choice.message)], [{"place": "Rome"}, {"place": "Oslo"}])
    details = answer.usage.prompt_tokens_details
    same((answer.usage.prompt_tokens, details.cached_tokens, details.cache_write_tokens), (1000, 300, 100))
    near(answer.usage.cost, SONNET_COST)
    results = [{"role": "tool", "tool_call_id": call.id, "content": "Sunny"} for call in choice.message.tool_calls]
    last = chat(model=SONNET, messages=[*ASKED, choice.message.to_dict(), *results], tools=[TOOL]).choices[0]
    same((last.message.content, last.finish_reason), ("The tool says: Sunny, Sunny", "stop"))


@case("chat.routing")
def _():
    answer = chat(model=BUSY, extra_body={"models": [PRIME], "provider": {"data_collection": "deny"}})
    same((answer.model, answer.provider), (PRIME, "Acme"))


@case("chat.broken")
def _():
    stream = chat(once, messages=[{"role": "user", "content": "[[fail:cut]]"}], stream=True)
    error = thrown(lambda: list(stream), openai.APIError)
    same((type(error), error.message), (openai.APIError, "The provider's answer broke off."))


@case("completions.whole")
def _():
    answer = client.completions.create(model=PRIME, prompt="Tell me about holds")
    [choice] = answer.choices
    same((answer.object, choice.text, choice.finish_reason), ("text_completion", SENTENCE, "stop"))
    near(answer.usage.cost, PRIME_COST)


@case("completions.stream")
def _():
    chunks = list(client.completions.create(model=PRIME, prompt="Tell me about holds", stream=True))
    same("".join(choice.text for chunk in chunks for choice in chunk.choices), SENTENCE)
    near(chunks[-1].usage.cost, PRIME_COST)


@case("responses.whole")
def _():
    response = respond(instructions="Be brief", metadata={"a": "b"})
    same((response.id[:4], response.object, response.status), ("gen-", "response", "completed"))
    same(([item.type for item in response.output], response.metadata), (["message"], {"a": "b"}))
    assert len(response.output_text) > 20
    assert 0 < response.usage.cost < 0.001
    same(respond(max_output_tokens=3).incomplete_details.reason, "max_output_tokens")


@case("responses.stream")
def _():
    whole, told = respond(), list(respond(stream=True))
    same("".join(event.delta for event in told if event.type == "response.output_text.delta"), whole.output_text)
    same([event.sequence_number for event in told], list(range(len(told))))
    same(len({type(event) for event in told}), 9)
    same((told[-1].type, told[-1].response.output_text), ("response.completed", whole.output_text))
    same(told[-1].response.usage.cost, whole.usage.cost)
    with client.responses.stream(model=MODEL, input="Tell me about holds") as stream:
        same(stream.get_final_response().output_text, whole.output_text)


@case("responses.tools")
def _():
    def turn(**request):
        with client.responses.stream(**request) as stream:
            return stream.get_final_response()

    for ask in (client.responses.create, turn):
        asked = [{"role": "user", "content": "What is the weather in Rome and Oslo?"}]
        first = ask(model=PRIME, input=asked, tools=[RESPONSE_TOOL])
        calls = [item for item in first.output if item.type == "function_call"]
        same(
            [(call.name, json.loads(call.arguments)["place"]) for call in calls],
            [("weather", "Rome"), ("weather", "Oslo")],
        )
        results = [{"type": "function_call_output", "call_id": call.call_id, "output": call.call_id} for call in calls]
        items = [item.to_dict() for item in first.output]
        last = ask(model=PRIME, input=[*asked, *items, *results], tools=[RESPONSE_TOOL])
        same(last.output_text, "The tool says: call_1, call_2")


@case("responses.schema")
def _():
    for model in (PRIME, SONNET):
        same(
            client.responses.parse(model=model, input="Rome?", text_format=Forecast).output_parsed, Forecast(**FORECAST)
        )


@case("responses.reasoning")
def _():
    response = respond(model=PRIME, reasoning={"effort": "high"})
    same([item.type for item in response.output], ["reasoning", "message"])
    same("".join(part.text for part in response.output[0].content or []), THOUGHT)
    same(response.output_text, SENTENCE)


@case("responses.images")
def _():
    parts = [{"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "auto"}]
    same(respond(model=PRIME, input=[{"role": "user", "content": parts}]).output_text, SEEN)


@case("responses.usage")
def _():
    usage = respond(model=PRIME).usage
    same((usage.input_tokens, usage.output_tokens, usage.total_tokens), (1000, 200, 1200))
    same((usage.input_tokens_details.cached_tokens, usage.output_tokens_details.reasoning_tokens), (300, 50))
    near(usage.cost, PRIME_COST)


@case(
    "responses.stored", differs="Refused with 400: nothing is stored, so every request carries its whole conversation."
)
def _():
    same(refused(lambda: respond(store=True)), ("BadRequestError", 400))
    same(refused(lambda: respond(previous_response_id="resp_1")), ("BadRequestError", 400))
    same(refused(lambda: client.responses.retrieve("resp_1")), ("NotFoundError", 404))


@case("responses.broken")
def _():
    told = list(respond(once, input="[[fail:cut]]", stream=True))
    same([event.type for event in told[-2:]], ["error", "response.failed"])
    same(told[-1].response.error.message, "The provider's answer broke off.")


@case("embeddings.floats")
def _():
    given = client.embeddings.create(
        model=EMBEDDER, input=["Hello there", "Goodbye"], dimensions=8, encoding_format="float"
    )
    same((given.object, [len(each.embedding) for each in given.data]), ("list", [8, 8]))
    same(given.usage.prompt_tokens, 3)
    near(given.usage.cost, 3 * 0.00000002)


@case("embeddings.base64")
def _():
    asked = {"model": EMBEDDER, "input": "Hello there", "dimensions": 8}
    floats = client.embeddings.create(**asked, encoding_format="float").data[0].embedding
    decoded = client.embeddings.create(**asked).data[0].embedding  # asks for base64 by itself
    packed = client.embeddings.create(**asked, encoding_format="base64").data[0].embedding
    for seen in (decoded, struct.unpack("<8f", base64.b64decode(packed))):
        assert all(abs(one - other) < 1e-6 for one, other in zip(seen, floats, strict=True))


@case("models.list")
def _():
    same([model.id for model in client.models.list()], TEXT_MODELS)


@case("models.get")
def _():
    same(client.models.retrieve(PRIME).id, PRIME)


def refused(work):
    """Type and status of the exception, whose body is OpenRouter's."""
    error = thrown(work, openai.APIStatusError)
    same(error.body["code"], error.status_code)
    assert error.body["message"]
    return type(error).__name__, error.status_code


@case("errors.400")
def _():
    for work in (
        lambda: chat(model="demo/eco-1"),
        lambda: chat(max_tokens=-1),
        lambda: respond(tools=[{"type": "web_search"}]),
        lambda: client.embeddings.create(model=MODEL, input="Hi"),
        lambda: client.completions.create(model=MODEL, prompt=["a", "b"]),
    ):
        same(refused(work), ("BadRequestError", 400))


@case("errors.401")
def _():
    same(refused(lambda: chat(made_up)), ("AuthenticationError", 401))


@case("errors.402")
def _():
    for work in (lambda: chat(broke), lambda: chat(broke, stream=True), lambda: respond(broke)):
        same(refused(work), ("APIStatusError", 402))


@case("errors.403")
def _():
    same(refused(lambda: chat(management)), ("PermissionDeniedError", 403))


@case("errors.404")
def _():
    same(refused(lambda: chat(extra_body={"provider": {"only": ["nobody"]}})), ("NotFoundError", 404))


@case("errors.413")
def _():
    same(refused(lambda: chat(messages=[{"role": "user", "content": TOO_LARGE}])), ("APIStatusError", 413))


@case("errors.busy", differs=BUSY_SENTENCE)
def _():
    same(refused(lambda: chat(once, model=BUSY)), ("InternalServerError", 503))


@case("errors.429")
def _():
    same(refused(lambda: chat(crowded)), ("RateLimitError", 429))


@case("errors.502")
def _():
    same(
        refused(lambda: chat(once, messages=[{"role": "user", "content": "[[fail:500]]"}])),
        ("InternalServerError", 502),
    )


@case("errors.503")
def _():
    same(
        refused(lambda: chat(once, messages=[{"role": "user", "content": "[[fail:503]]"}])),
        ("InternalServerError", 503),
    )


run(openai.__version__)
