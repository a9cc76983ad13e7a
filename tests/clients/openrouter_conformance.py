"""The official `openrouter` client, unmodified but for the server URL, validating every answer. Run by `test_conformance.py`."""

import base64
import json
import os
import struct
from datetime import UTC, datetime, timedelta
from importlib.metadata import version

from _cases import (
    API_BASE,
    API_KEY,
    ASKED,
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
    PERSONAL_MANAGEMENT_KEY,
    PIXEL,
    PRIME,
    PRIME_COST,
    QUESTION,
    RESPONSE_TOOL,
    SCHEMA,
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
from openrouter import OpenRouter, errors
from openrouter.utils import BackoffStrategy, RetryConfig

SHORT = RetryConfig("backoff", BackoffStrategy(1, 1, 1.0, 1), retry_connection_errors=False)
"""The default goes on for an hour."""
ORGANIZATION, USER = os.environ["ORGANIZATION"], os.environ["USER_ID"]

IMAGE = f"data:image/png;base64,{PIXEL}"


def client_of(key):
    return OpenRouter(api_key=key, server_url=API_BASE, retry_config=SHORT, timeout_ms=30_000)


client, management, broke, crowded, made_up, personal_management = (
    client_of(key) for key in (API_KEY, MANAGEMENT_KEY, BROKE_KEY, CROWDED_KEY, MADE_UP_KEY, PERSONAL_MANAGEMENT_KEY)
)


def chat(client=client, **more):
    return client.chat.send(**{"model": MODEL, "messages": QUESTION, **more})


def respond(client=client, **more):
    return client.responses.send(**{"model": MODEL, "input": "Tell me about holds", **more})


def choices(chunks):
    return [choice for chunk in chunks for choice in chunk.choices]


def texts(chunks):
    return "".join(choice.delta.content or "" for choice in choices(chunks))


@case("chat.whole")
def _():
    answer = chat()
    same((answer.id[:4], answer.object, answer.model), ("gen-", "chat.completion", MODEL))
    same((answer.choices[0].finish_reason, len(answer.choices[0].message.content) > 20), ("stop", True))
    assert 0 < answer.usage.cost < 0.001
    details = answer.usage.cost_details.model_dump()
    assert {"upstream_inference_prompt_cost", "upstream_inference_completions_cost"} <= details.keys(), details
    same(chat(max_tokens=3).choices[0].finish_reason, "length")


@case("chat.stream")
def _():
    whole, chunks = chat(), list(chat(stream=True))
    same(texts(chunks), whole.choices[0].message.content)
    same([choice.finish_reason for choice in choices(chunks) if choice.finish_reason], ["stop"])
    same([n for n, chunk in enumerate(chunks) if chunk.usage], [len(chunks) - 1])
    same((chunks[-1].usage.total_tokens, chunks[-1].usage.cost), (whole.usage.total_tokens, whole.usage.cost))


def called(calls):
    return [(call.id, call.type, call.function.name, json.loads(call.function.arguments)) for call in calls]


CALLED = [("call_1", "function", "weather", {"place": "Rome"}), ("call_2", "function", "weather", {"place": "Oslo"})]


@case("chat.tools")
def _():
    [choice] = chat(model=PRIME, messages=ASKED, tools=[TOOL], tool_choice="auto", parallel_tool_calls=True).choices
    same((choice.finish_reason, choice.message.content), ("tool_calls", "One moment."))
    same(called(choice.message.tool_calls), CALLED)
    results = [{"role": "tool", "tool_call_id": call.id, "content": call.id} for call in choice.message.tool_calls]
    last = chat(model=PRIME, messages=[*ASKED, choice.message, *results], tools=[TOOL]).choices[0]
    same((last.message.content, last.finish_reason), ("The tool says: call_1, call_2", "stop"))


@case("chat.tools_stream")
def _():
    chunks = list(chat(model=PRIME, messages=ASKED, tools=[TOOL], stream=True))
    pieces = [call for choice in choices(chunks) for call in choice.delta.tool_calls or []]
    for at, wanted in enumerate(CALLED):
        mine = [piece for piece in pieces if piece.index == at]
        arguments = "".join(piece.function.arguments or "" for piece in mine)
        same((mine[0].id, mine[0].type, mine[0].function.name, json.loads(arguments)), wanted)
    same([choice.finish_reason for choice in choices(chunks) if choice.finish_reason], ["tool_calls"])


@case("chat.schema")
def _():
    for model in (PRIME, SONNET):
        same(json.loads(chat(model=model, response_format=FORMAT).choices[0].message.content), FORECAST)


@case("chat.reasoning")
def _():
    for model in (PRIME, SONNET):
        message = chat(model=model, max_tokens=4000, reasoning={"effort": "high"}).choices[0].message
        same((message.reasoning, message.content), (THOUGHT, SENTENCE))
        chunks = list(chat(model=model, max_tokens=4000, reasoning={"effort": "high"}, stream=True))
        same("".join(choice.delta.reasoning or "" for choice in choices(chunks)), THOUGHT)
        same(texts(chunks), SENTENCE)


@case("chat.images")
def _():
    asked = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": IMAGE}}]}]
    for model in (PRIME, SONNET):
        same(chat(model=model, messages=asked).choices[0].message.content, SEEN)


@case("chat.logprobs")
def _():
    [choice] = chat(model=PRIME, logprobs=True, top_logprobs=2).choices
    same("".join(token.token for token in choice.logprobs.content), SENTENCE)
    same([(top.token, top.logprob) for top in choice.logprobs.content[0].top_logprobs], [("Holds", -0.5), ("?", -2.5)])
    given = choices(chat(model=PRIME, logprobs=True, top_logprobs=2, stream=True))
    same("".join(token.token for choice in given if choice.logprobs for token in choice.logprobs.content), SENTENCE)


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
    answer = chat(model=SONNET, messages=ASKED, tools=[TOOL], max_tokens=4000, reasoning={"effort": "high"})
    [choice] = answer.choices
    same((choice.message.reasoning, choice.finish_reason), (THOUGHT, "tool_calls"))
    same([detail.type for detail in choice.message.reasoning_details], ["reasoning.text"])
    same([arguments for *_, arguments in called(choice.message.tool_calls)], [{"place": "Rome"}, {"place": "Oslo"}])
    details = answer.usage.prompt_tokens_details
    same((answer.usage.prompt_tokens, details.cached_tokens, details.cache_write_tokens), (1000, 300, 100))
    near(answer.usage.cost, SONNET_COST)
    results = [{"role": "tool", "tool_call_id": call.id, "content": "Sunny"} for call in choice.message.tool_calls]
    last = chat(model=SONNET, messages=[*ASKED, choice.message, *results], tools=[TOOL]).choices[0]
    same((last.message.content, last.finish_reason), ("The tool says: Sunny, Sunny", "stop"))


@case("chat.routing")
def _():
    answer = chat(
        models=[BUSY, PRIME], model=None, provider={"data_collection": "deny"}, x_open_router_metadata="enabled"
    )
    same(answer.model, PRIME)
    same([attempt.provider for attempt in answer.openrouter_metadata.attempts], ["Acme"])


@case("chat.broken")
def _():
    chunks = list(chat(messages=[{"role": "user", "content": "[[fail:cut]]"}], stream=True))
    [last] = [chunk for chunk in chunks if chunk.error]
    same((int(last.error.code), last.error.message), (502, "The provider's answer broke off."))
    same(last.choices[0].finish_reason, "error")


@case("responses.whole")
def _():
    response = respond(instructions="Be brief", metadata={"a": "b"})
    same((response.id[:4], response.object, response.status), ("gen-", "response", "completed"))
    same(([item.type for item in response.output], response.metadata), (["message"], {"a": "b"}))
    assert len(response.output[0].content[0].text) > 20
    assert 0 < response.usage.cost < 0.001
    same(response.usage.cost_details.upstream_inference_input_cost, 0)


@case("responses.stream")
def _():
    whole, told = respond(), list(respond(stream=True))
    text = whole.output[0].content[0].text
    same("".join(event.delta for event in told if event.type == "response.output_text.delta"), text)
    same([event.sequence_number for event in told], list(range(len(told))))
    names = {type(event).__name__ for event in told}
    same((len(names), [name for name in names if name.startswith("Unknown")]), (9, []))
    same((told[-1].type, told[-1].response.output[0].content[0].text), ("response.completed", text))
    same(told[-1].response.usage.cost, whole.usage.cost)


@case("responses.tools")
def _():
    repeated = respond(tools=[RESPONSE_TOOL], tool_choice={"type": "function", "name": "weather"}, temperature=0.5)
    same(
        ([type(each).__name__ for each in repeated.tools], repeated.tool_choice.name),
        (["OpenResponsesResultToolFunction"], "weather"),
    )
    first = respond(model=PRIME, input=ASKED, tools=[RESPONSE_TOOL])
    calls = [item for item in first.output if item.type == "function_call"]
    same(
        [(call.name, json.loads(call.arguments)["place"]) for call in calls], [("weather", "Rome"), ("weather", "Oslo")]
    )
    results = [{"type": "function_call_output", "call_id": call.call_id, "output": call.call_id} for call in calls]
    items = [item.model_dump(by_alias=True) for item in first.output]
    told = list(respond(model=PRIME, input=[*ASKED, *items, *results], tools=[RESPONSE_TOOL], stream=True))
    same(told[-1].response.output[0].content[0].text, "The tool says: call_1, call_2")


@case("responses.schema")
def _():
    wanted = {"format": {"type": "json_schema", "name": "forecast", "strict": True, "schema": SCHEMA}}
    for model in (PRIME, SONNET):
        same(json.loads(respond(model=model, text=wanted).output[0].content[0].text), FORECAST)


@case("responses.reasoning")
def _():
    for model in (PRIME, SONNET):
        response = respond(model=model, max_output_tokens=4000, reasoning={"effort": "high"})
        same([item.type for item in response.output], ["reasoning", "message"])
        same("".join(part.text for part in response.output[0].content), THOUGHT)
        same(response.output[1].content[0].text, SENTENCE)


@case("responses.images")
def _():
    parts = [{"type": "input_image", "image_url": IMAGE, "detail": "auto"}]
    same(respond(model=PRIME, input=[{"role": "user", "content": parts}]).output[0].content[0].text, SEEN)


@case("responses.usage")
def _():
    usage = respond(model=PRIME).usage
    same((usage.input_tokens, usage.output_tokens, usage.total_tokens), (1000, 200, 1200))
    same((usage.input_tokens_details.cached_tokens, usage.output_tokens_details.reasoning_tokens), (300, 50))
    near(usage.cost, PRIME_COST)


@case("responses.stored")
def _():
    same(refused(lambda: respond(previous_response_id="resp_1")), ("BadRequestResponseError", 400))


@case("responses.broken")
def _():
    told = list(respond(input="[[fail:cut]]", stream=True))
    same([event.type for event in told[-2:]], ["error", "response.failed"])
    same(told[-1].response.error.message, "The provider's answer broke off.")


@case("embeddings.floats")
def _():
    given = client.embeddings.generate(model=EMBEDDER, input=["Hello there", "Goodbye"], dimensions=8)
    same((given.object, given.model, [len(each.embedding) for each in given.data]), ("list", EMBEDDER, [8, 8]))
    same(given.usage.prompt_tokens, 3)
    near(given.usage.cost, 3 * 0.00000002)


@case("embeddings.base64")
def _():
    asked = {"model": EMBEDDER, "input": "Hello there", "dimensions": 8}
    floats = client.embeddings.generate(**asked).data[0].embedding
    packed = client.embeddings.generate(**asked, encoding_format="base64").data[0].embedding
    unpacked = struct.unpack("<8f", base64.b64decode(packed))
    assert all(abs(one - other) < 1e-6 for one, other in zip(unpacked, floats, strict=True))


def paged(first):
    pages = []
    while first is not None:
        pages.append([model.id for model in first.result.data])
        first = first.next()
    return [page for page in pages if page]


@case("embeddings.models")
def _():
    same(paged(client.embeddings.list_models()), [[EMBEDDER]])


@case("models.list")
def _():
    same(paged(client.models.list(limit=3)), [TEXT_MODELS[:3], TEXT_MODELS[3:6], TEXT_MODELS[6:]])
    same(paged(client.models.list()), [TEXT_MODELS])
    page = client.models.list(q="prime").result
    same(([model.id for model in page.data], page.total_count), ([PRIME], 1))
    assert EMBEDDER in paged(client.models.list(output_modalities="all"))[0]


@case("models.count")
def _():
    same(client.models.count().data.count, len(TEXT_MODELS))


@case("models.user")
def _():
    same(paged(client.models.list_for_user(security={"bearer": API_KEY})), [TEXT_MODELS])
    same(
        refused(lambda: client.models.list_for_user(security={"bearer": MADE_UP_KEY})),
        ("UnauthorizedResponseError", 401),
    )


@case("models.get")
def _():
    model = client.models.get(author="acme", slug="prime").data
    same((model.id, model.name, model.context_length), (PRIME, "Acme Prime", 32768))
    same((float(model.pricing.prompt), float(model.pricing.completion)), (0.000001, 0.000002))
    same((float(model.pricing.input_cache_read), float(model.pricing.internal_reasoning)), (0.0000001, 0.000003))
    same(sorted(model.architecture.input_modalities), ["image", "text"])
    same(refused(lambda: client.models.get(author="acme", slug="nothing")), ("NotFoundResponseError", 404))


@case("endpoints.list")
def _():
    model = client.endpoints.list(author="acme", slug="prime").data
    same((model.id, model.name), (PRIME, "Acme Prime"))
    [endpoint] = model.endpoints
    same((endpoint.provider_name, endpoint.tag, endpoint.model_id), ("Acme", "acme", PRIME))
    same((endpoint.context_length, endpoint.max_completion_tokens), (32768, 4096))
    same(float(endpoint.pricing.completion), 0.000002)
    assert "tools" in endpoint.supported_parameters
    same(refused(lambda: client.endpoints.list(author="acme", slug="nothing")), ("NotFoundResponseError", 404))


@case("endpoints.zdr")
def _():
    found = {endpoint.model_id for endpoint in client.endpoints.list_zdr_endpoints().data}
    same((PRIME in found, SONNET in found, BUSY in found), (True, False, False))


@case("providers.list")
def _():
    found = {provider.slug: provider.name for provider in client.providers.list().data}
    same(
        {slug: found.get(slug) for slug in ("acme", "claudius", "busy")},
        {"acme": "Acme", "claudius": "Claudius", "busy": "Busy"},
    )


@case("generation")
def _():
    begun = datetime.now(UTC)
    headers = {"User-Agent": "conformance/1"}
    told = {"http_referer": "https://app.example", "user": "u-1", "session_id": "s-1", "http_headers": headers}
    answer = chat(model=None, models=[BUSY, SONNET], reasoning={"effort": "high"}, max_tokens=4000, **told)
    found = client.generations.get_generation(id=answer.id).data
    same(
        set(type(found).model_fields) - set(found.model_dump(by_alias=True)), {"request_id", "response_cache_source_id"}
    )
    same(len(set(type(found).model_fields) - {"request_id", "response_cache_source_id", "session_id"}), 42)
    same((found.id, found.model, found.provider_name), (answer.id, SONNET, "Claudius"))
    near(found.total_cost, SONNET_COST)
    same((found.usage, found.is_byok, found.upstream_inference_cost), (found.total_cost, False, None))
    assert (
        timedelta(0) <= datetime.fromisoformat(found.created_at) - begun.replace(microsecond=0) < timedelta(minutes=5)
    )
    same((found.tokens_prompt, found.tokens_completion), (1000, 200))
    same((found.native_tokens_prompt, found.native_tokens_completion), (1000, 200))
    same((found.native_tokens_cached, found.native_tokens_reasoning), (300, 50))
    same((found.finish_reason, found.native_finish_reason), ("stop", "end_turn"))
    same((found.streamed, found.cancelled, found.api_type, found.upstream_id), (False, False, "completions", "msg_1"))
    same(
        (found.origin, found.http_referer, found.user_agent),
        ("https://app.example", "https://app.example", "conformance/1"),
    )
    same((found.external_user, found.session_id, found.data_region), ("u-1", "s-1", "global"))
    assert 0 <= found.latency <= found.latency + found.generation_time < 60_000
    failed, served = found.provider_responses
    same((failed.status, failed.provider_name, failed.model_permaslug), (503, "Busy", BUSY))
    assert not failed.id, "it did not answer"
    same((served.status, served.provider_name, served.model_permaslug, served.id), (200, "Claudius", SONNET, "msg_1"))
    assert failed.endpoint_id
    assert failed.endpoint_id != served.endpoint_id
    same(found.workspace_id, client.api_keys.get_current_key_metadata().data.workspace_id)
    streamed = list(chat(model=PRIME, stream=True))
    found = client.generations.get_generation(id=streamed[0].id).data
    assert found.streamed
    near(found.total_cost, PRIME_COST)
    embedded = client.embeddings.generate(model=EMBEDDER, input="Hello")
    found = management.generations.get_generation(id=embedded.id).data
    same((found.api_type, found.model, found.native_tokens_completion), ("embeddings", EMBEDDER, 0))
    same(refused(lambda: client.generations.get_generation(id="gen-none")), ("NotFoundResponseError", 404))


@case("key")
def _():
    before = client.api_keys.get_current_key_metadata().data
    cost = chat(model=PRIME).usage.cost
    key = client.api_keys.get_current_key_metadata().data
    same(len(set(type(key).model_fields) - {"expires_at"}), 24)
    same(key.label, f"{API_KEY[:16]}...{API_KEY[-4:]}")
    for name in ("usage", "usage_daily", "usage_weekly", "usage_monthly"):
        near(getattr(key, name), getattr(before, name) + cost)
    same((key.limit, key.limit_remaining, key.limit_reset, key.expires_at), (None, None, None, None))
    same((key.budgets, key.effective_budget, key.include_byok_in_limit), ([], None, False))
    same([key.byok_usage, key.byok_usage_daily, key.byok_usage_weekly, key.byok_usage_monthly], [0, 0, 0, 0])
    same((key.is_free_tier, key.is_management_key, key.is_provisioning_key), (False, False, False))
    same((key.organization_id, key.creator_user_id, len(key.workspace_id)), (ORGANIZATION, USER, 36))
    same((key.allowed_data_regions, key.rate_limit.requests), (["global"], -1))
    same(key.free_model_daily_requests.model_dump(), {"limit": -1, "used": 0, "remaining": -1})
    ours = management.api_keys.get_current_key_metadata().data
    same((ours.is_management_key, ours.is_provisioning_key, ours.usage), (True, True, 0))
    personal = broke.api_keys.get_current_key_metadata().data
    same((personal.organization_id, personal.is_free_tier, personal.usage), (None, True, 0))


@case("keys")
def _():
    made = management.api_keys.create(name="suite", limit=1.5, limit_reset="weekly")
    same(
        (made.data.name, made.data.limit, made.data.limit_remaining, made.data.limit_reset),
        ("suite", 1.5, 1.5, "weekly"),
    )
    cost = chat(client_of(made.key), model=PRIME).usage.cost
    found = management.api_keys.get(hash=made.data.hash).data
    near(found.limit_remaining, 1.5 - cost)
    near(found.usage_weekly, cost)
    assert made.data.hash in [key.hash for key in management.api_keys.list().data]
    assert not management.api_keys.list(offset=100).data
    changed = management.api_keys.update(hash=made.data.hash, limit=0, disabled=False, name="spent").data
    same((changed.name, changed.limit, changed.limit_remaining), ("spent", 0, 0))
    same(refused(lambda: chat(client_of(made.key), model=PRIME)), ("ForbiddenResponseError", 403))
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
    same((made.data.expires_at, changed.expires_at), (None, None))
    expiring = management.api_keys.create(name="for a month", expires_at=until)
    same(expiring.data.expires_at, until)
    same(client_of(expiring.key).api_keys.get_current_key_metadata().data.expires_at, until)
    management.api_keys.update(hash=expiring.data.hash, disabled=True)
    assert expiring.data.hash not in [key.hash for key in management.api_keys.list(include_expired=True).data]
    assert expiring.data.hash in [key.hash for key in management.api_keys.list(include_disabled=True).data]
    management.api_keys.delete(hash=expiring.data.hash)
    past = refused(lambda: management.api_keys.create(name="too late", expires_at=until - timedelta(days=31)))
    same(past, ("BadRequestResponseError", 400))
    management.api_keys.delete(hash=made.data.hash)  # its validation asks for `deleted: true`
    same(refused(lambda: management.api_keys.get(hash=made.data.hash)), ("NotFoundResponseError", 404))
    same(thrown(client.api_keys.list, errors.OpenRouterError).status_code, 403)


@case("keys.rotation")
def _():
    old = management.api_keys.create(name="production", limit=2)
    chat(client_of(old.key))
    new = management.api_keys.create(name="production", limit=2)
    chat(client_of(new.key))
    management.api_keys.delete(hash=old.data.hash)
    same(refused(lambda: chat(client_of(old.key))), ("UnauthorizedResponseError", 401))
    chat(client_of(new.key))
    management.api_keys.delete(hash=new.data.hash)


@case("organization.members")
def _():
    page = management.organization.list_members()
    members = page.result.data
    same((page.result.total_count, len(members)), (2, 2))
    admin = members[0]
    same((admin.id, admin.role, admin.first_name), (USER, "org:admin", "Ana"))
    same((members[1].role, "@" in members[1].email, bool(members[1].last_name)), ("org:member", True, True))
    same([each.id for each in management.organization.list_members(offset=1, limit=1).result.data], [members[1].id])
    same(refused(personal_management.organization.list_members), ("NotFoundResponseError", 404))
    same(refused(client.organization.list_members), ("ForbiddenResponseError", 403))


@case("organization.settings")
def _():
    def filtered():
        found = management.organization.get_settings().data
        same(found.id, ORGANIZATION)
        return found.is_filtered_model_catalog_enabled

    assert filtered() is False
    for wanted in (True, False):
        changed = management.organization.update_settings(is_filtered_model_catalog_enabled=wanted).data
        same((changed.is_filtered_model_catalog_enabled, filtered()), (wanted, wanted))
    same(refused(personal_management.organization.get_settings), ("NotFoundResponseError", 404))
    same(refused(client.organization.get_settings), ("ForbiddenResponseError", 403))


@case("credits")
def _():
    before = management.credits.get_credits().data
    cost = chat(model=PRIME).usage.cost
    found = management.credits.get_credits().data
    same(found.total_credits, 10)
    near(found.total_usage, before.total_usage + cost)
    same(refused(client.credits.get_credits), ("ForbiddenResponseError", 403))


def refused(work):
    """Type and status of the exception, whose body is OpenRouter's."""
    error = thrown(work, errors.OpenRouterError)
    same(int(error.data.error.code), error.status_code)
    assert error.data.error.message
    return type(error).__name__, error.status_code


def says(text):
    return [{"role": "user", "content": text}]


@case("errors.400")
def _():
    for work in (
        lambda: chat(model="demo/eco-1"),
        lambda: respond(tools=[{"type": "web_search"}]),
        lambda: client.embeddings.generate(model=MODEL, input="Hi"),
    ):
        same(refused(work), ("BadRequestResponseError", 400))


@case("errors.401")
def _():
    for work in (lambda: chat(made_up), made_up.api_keys.get_current_key_metadata):
        same(refused(work), ("UnauthorizedResponseError", 401))


@case("errors.402")
def _():
    for work in (lambda: chat(broke), lambda: chat(broke, stream=True), lambda: respond(broke)):
        same(refused(work), ("PaymentRequiredResponseError", 402))


@case("errors.403")
def _():
    for work in (lambda: chat(management), client.credits.get_credits):
        same(refused(work), ("ForbiddenResponseError", 403))


@case("errors.404")
def _():
    same(refused(lambda: chat(provider={"only": ["nobody"]})), ("NotFoundResponseError", 404))


@case("errors.413")
def _():
    same(refused(lambda: chat(messages=says(TOO_LARGE))), ("PayloadTooLargeResponseError", 413))


@case("errors.busy", differs=BUSY_SENTENCE)
def _():
    same(refused(lambda: chat(model=BUSY)), ("ServiceUnavailableResponseError", 503))


@case("errors.429")
def _():
    same(refused(lambda: chat(crowded)), ("TooManyRequestsResponseError", 429))


@case("errors.502")
def _():
    same(refused(lambda: chat(messages=says("[[fail:500]]"))), ("BadGatewayResponseError", 502))


@case("errors.503")
def _():
    same(refused(lambda: chat(messages=says("[[fail:503]]"))), ("ServiceUnavailableResponseError", 503))


run(version("openrouter"))
