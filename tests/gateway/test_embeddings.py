"""Embeddings: the shapes, whichever way a provider writes its vectors, and a charge for the prompt only."""

import base64
import json
import math
import struct
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bursar.activity import GenerationStatus, UsageSource
from bursar.catalog import Catalog, Model
from bursar.gateway import _skin_embeddings as skin
from bursar.gateway._door import ChatRequest, Headers
from bursar.kernel.errors import BursarError
from bursar.providers import UpstreamFailed, count_tokens
from bursar.providers._embeddings import count_inputs, read_embeddings
from tests.gateway.world import CREDIT, Answer, World, endpoint, provider, usage, whole

pytestmark = pytest.mark.anyio

PATH = "/api/v1/embeddings"
HEADERS = Headers(None, None, None, None, None)
VECTOR = [0.25, -1.5, 3.0]
PACKED = base64.b64encode(struct.pack("<3f", *VECTOR)).decode()
MODEL = Model("acme/vectors", "Vectors", context_length=512, output_modalities=("embeddings",))


async def embed(world: World, given: Any = "Hello there", *, key: str | None = None, **more: Any) -> Answer:
    return await world.post(json.dumps({"model": "demo/embed-1", "input": given, **more}).encode(), path=PATH, key=key)


def vectors(*embeddings: Any, **more: Any) -> dict[str, Any]:
    data = [{"object": "embedding", "index": index, "embedding": each} for index, each in enumerate(embeddings)]
    return {"object": "list", "model": "prime-1", "data": data, **more}


def catalog() -> Catalog:
    """`acme/vectors` at alpha (7 nanos a token) and at beta (70)."""
    alpha, beta = provider("alpha"), provider("beta")
    return Catalog([alpha, beta], [MODEL], [endpoint(MODEL, alpha, 7, 0), endpoint(MODEL, beta, 70, 0)])


async def test_an_answer_has_every_key_that_a_strict_client_requires(world: World):
    answer = await embed(world, ["Hello there", "Goodbye"])
    body = answer.json
    assert answer.status == 200
    assert body["id"] == answer.headers["x-generation-id"]
    assert (body["object"], body["model"], body["provider"]) == ("list", "demo/embed-1", "Demo")
    assert [(each["object"], each["index"], len(each["embedding"])) for each in body["data"]] == [
        ("embedding", 0, 256),
        ("embedding", 1, 256),
    ]
    assert body["usage"].keys() == {"prompt_tokens", "total_tokens", "cost", "is_byok", "cost_details"}
    assert body["usage"]["prompt_tokens"] == body["usage"]["total_tokens"] == 3


async def test_only_the_prompt_is_charged_and_one_generation_says_so(world: World):
    before = await world.balance()
    answer = await embed(world, ["one two three", "four"], user="u-1", session_id="s-1")
    row = await world.only_generation()
    told = json.loads(answer.body, parse_float=Decimal)["usage"]
    assert row.cost_nanos == 4 * 20 == before.available - (await world.balance()).available
    assert Decimal(told["cost"]).scaleb(9) == row.cost_nanos
    assert (row.api_type, row.status, row.usage_source) == ("embeddings", GenerationStatus.OK, UsageSource.REPORTED)
    assert (row.prompt_tokens, row.completion_tokens, row.streamed) == (4, 0, False)
    assert (row.external_user, row.session_id) == ("u-1", "s-1")


async def test_demo_vectors_are_unit_long_always_the_same_and_close_where_words_are_shared(world: World):
    texts = ["the cost of a request", "the cost of one request", "zebras graze quietly", "???", "\u00fc"]
    found = [each["embedding"] for each in (await embed(world, texts)).json["data"]]
    again = [each["embedding"] for each in (await embed(world, texts)).json["data"]]
    assert found == again
    assert all(math.isclose(math.hypot(*vector), 1) for vector in found)
    near, far = (sum(a * b for a, b in zip(found[0], other, strict=True)) for other in found[1:3])
    assert near > 0.6 > 0.4 > far


@pytest.mark.parametrize("dimensions", [1, 2, 1024])
async def test_dimensions_are_as_asked(world: World, dimensions: int):
    [one] = (await embed(world, dimensions=dimensions)).json["data"]
    assert len(one["embedding"]) == dimensions
    assert math.isclose(math.hypot(*one["embedding"]), 1)


async def test_base64_holds_the_same_numbers_as_little_endian_float32(world: World):
    [plain] = (await embed(world, dimensions=8)).json["data"]
    [packed] = (await embed(world, dimensions=8, encoding_format="base64")).json["data"]
    numbers = struct.unpack("<8f", base64.b64decode(packed["embedding"]))
    assert numbers == pytest.approx(plain["embedding"], rel=1e-6)


@pytest.mark.parametrize("sent", [VECTOR, PACKED], ids=["numbers", "base64"])
@pytest.mark.parametrize(("wanted", "got"), [(None, VECTOR), ("float", VECTOR), ("base64", PACKED)])
async def test_whichever_way_a_provider_writes_vectors_the_client_gets_what_it_asked_for(
    scripted: Callable[..., Any], sent: Any, wanted: str | None, got: Any
):
    world = await scripted([vectors(sent, usage={"prompt_tokens": 5, "total_tokens": 5})], catalog=catalog())
    answer = await embed(world, model="acme/vectors", encoding_format=wanted)
    assert [each["embedding"] for each in answer.json["data"]] == [got]
    assert (await world.only_generation()).cost_nanos == 5 * 7


@pytest.mark.parametrize("given", ["one", ["one", "two"], [1, 2, 3], [[1, 2], [3]]])
async def test_texts_and_tokens_reach_the_provider_as_they_came(scripted: Callable[..., Any], given: Any):
    world = await scripted([vectors(VECTOR, usage={"prompt_tokens": 5})], catalog=catalog())
    answer = await embed(
        world, given, model="acme/vectors", dimensions=3, input_type="search_query", provider={"only": ["alpha"]}
    )
    assert answer.status == 200
    [call] = world.upstream.calls
    assert call.body == {"input": given, "dimensions": 3, "input_type": "search_query"}
    assert call.upstream_model == "prime-1"


async def test_a_provider_that_reports_no_usage_is_charged_by_what_was_sent(scripted: Callable[..., Any]):
    world = await scripted([vectors(VECTOR)], catalog=catalog())
    await embed(world, "x" * 4000, model="acme/vectors")
    row = await world.only_generation()
    assert (row.usage_source, row.completion_tokens) == (UsageSource.ESTIMATED, 0)
    assert 1000 <= row.prompt_tokens <= 1100


async def test_a_failure_falls_back_and_the_one_that_answers_is_charged(scripted: Callable[..., Any]):
    world = await scripted([UpstreamFailed("down")], [vectors(VECTOR, usage={"prompt_tokens": 5})], catalog=catalog())
    assert (await embed(world, model="acme/vectors")).json["provider"] == "Beta"
    row = await world.only_generation()
    assert row.cost_nanos == 5 * 70
    assert [attempt["status"] for attempt in json.loads(row.attempts)] == [502, 200]


@pytest.mark.parametrize(("directive", "status"), [("500", 502), ("429", 503), ("junk", 502), ("cut", 502)])
async def test_a_failure_costs_nothing(world: World, directive: str, status: int):
    assert (await embed(world, f"[[fail:{directive}]]")).status == status
    assert await world.books_are_right() == 0
    assert (await world.only_generation()).status is GenerationStatus.FAILED


async def test_a_chat_model_is_refused_here_and_an_embedding_model_there_with_the_right_endpoint(world: World):
    here = await embed(world, model="demo/echo-1")
    there = await world.chat(model="demo/embed-1")
    answers = (here, "POST /api/v1/chat/completions"), (there, "POST /api/v1/embeddings")
    for answer, right in answers:
        assert answer.status == 400
        assert right in answer.error["message"]
        assert answer.error["availability"] == {"code": "wrong_endpoint", "retryable": False}
    responses = await world.post(b'{"model": "demo/embed-1", "input": "Hi"}', path="/api/v1/responses")
    assert "POST /api/v1/embeddings" in responses.error["message"]
    assert await world.generations() == []


async def test_a_model_of_the_wrong_kind_among_others_is_passed_over(world: World):
    answer = await embed(world, model="demo/echo-1", models=["demo/embed-1"])
    assert answer.json["model"] == "demo/embed-1"


async def test_credits_for_the_prompts_bound_are_enough_and_one_nano_less_is_not(world: World):
    # 2,000 inputs of one byte: far more than one context, and each of them may be a token and its frame.
    bound = (skin.TEMPLATE_TOKENS + 2000 * (1 + skin.MESSAGE_TOKENS)) * 20
    _, key = await world.make_pool(bound - 1)
    refused = await embed(world, ["x"] * 2000, key=key)
    assert refused.status == 402
    assert "max_tokens" not in refused.error["message"]
    _, key = await world.make_pool(1)
    assert (await embed(world, ["x"] * 2000, key=key)).status == 200
    await world.books_are_right()


async def test_a_hold_covers_no_output_whatever_output_would_cost(scripted: Callable[..., Any]):
    alpha = provider("alpha")
    offers = Catalog([alpha], [MODEL], [endpoint(MODEL, alpha, 7, 1_000_000)])
    world = await scripted([vectors(VECTOR, usage={"prompt_tokens": 5})], catalog=offers)
    _, key = await world.make_pool((skin.TEMPLATE_TOKENS + skin.MESSAGE_TOKENS + 2) * 7)
    assert (await embed(world, "Hi", model="acme/vectors", key=key)).status == 200
    assert await world.books_are_right() == 5 * 7


async def test_more_reported_than_held_costs_the_hold_at_most(scripted: Callable[..., Any]):
    world = await scripted([vectors(VECTOR, usage={"prompt_tokens": 10_000_000})], catalog=catalog())
    owner, key = await world.make_pool(CREDIT // 1000)
    assert (await embed(world, "Hi", model="acme/vectors", key=key)).status == 200
    assert (await world.balance(owner)).available >= 0
    await world.books_are_right()


WRONG: list[dict[str, Any]] = [
    {"input": None},
    {"input": ""},
    {"input": []},
    {"input": 7},
    {"input": [""]},
    {"input": ["a", 7]},
    {"input": [True]},
    {"input": [-1]},
    {"input": [1.5]},
    {"input": [[]]},
    {"input": [[1], "a", [2.5]]},
    {"input": {"content": []}},
    {"input": [{"content": [{"type": "text", "text": "Hi"}]}]},
    {"input": ["x"] * 2049},
    {"model": None},
    {"model": 7},
    {"dimensions": 0},
    {"dimensions": "3"},
    {"dimensions": True},
    {"encoding_format": "hex"},
    {"encoding_format": ["float"]},
    {"input_type": 7},
    {"stream": True},
    {"user": 7},
    {"provider": "demo"},
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: json.dumps(wrong)[:40])
async def test_a_wrong_field_is_400_and_named(world: World, wrong: dict[str, Any]):
    answer = await embed(world, **{"given": "Hi", **wrong} if "input" not in wrong else {"given": wrong["input"]})
    assert answer.status == 400, answer.body
    assert next(iter(wrong)) in answer.error["message"]
    assert await world.generations() == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = ["model", "models", "input", "dimensions", "encoding_format", "input_type", "user", "provider", "stream"]


def read(body: bytes) -> ChatRequest | BursarError:
    """What the skin makes of it; anything but a request or a refusal is raised."""
    try:
        return skin.EmbeddingsSkin().parse(body, HEADERS)
    except BursarError as error:
        return error


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), JSON, max_size=5), JSON | st.text(min_size=1))
def test_whatever_json_comes_it_is_read_or_refused(fields: dict[str, Any], given: Any):
    for body in (fields, {**fields, "model": "m", "input": given}):
        request = read(json.dumps(body).encode())
        if isinstance(request, BursarError):
            assert request.status == 400
            assert request.sentence
        else:
            assert request.prompt_tokens_bound > 0


@settings(max_examples=300, deadline=None)
@given(JSON | st.fixed_dictionaries({"data": st.lists(st.fixed_dictionaries({"embedding": JSON, "index": JSON}))}))
def test_whatever_a_provider_answers_is_a_vector_for_each_input_or_a_failure(answer: Any):
    for inputs in (1, 2):
        try:
            found = read_embeddings(answer, inputs)
        except UpstreamFailed:
            continue
        assert [each["index"] for each in found["data"]] == list(range(inputs))
        for form in ("float", "base64"):
            request = skin.EmbeddingsSkin().parse(
                json.dumps({"model": "m", "input": "x", "encoding_format": form}).encode(), HEADERS
            )
            told = {"prompt_tokens": 1, "cost": 0, "is_byok": False, "cost_details": {}}
            assert skin.EmbeddingsSkin().whole(request, {**found, "usage": told})


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        {},
        {"data": "x"},
        vectors(),
        vectors(VECTOR),
        vectors(VECTOR, VECTOR, VECTOR),
        vectors(VECTOR, []),
        vectors(VECTOR, ["a"]),
        vectors(VECTOR, "not base64!"),
        vectors(VECTOR, "AAAA"),
        {"data": [{"index": 0, "embedding": VECTOR}, {"index": 0, "embedding": VECTOR}]},
        {"data": [{"index": 1, "embedding": VECTOR}, {"index": 2, "embedding": VECTOR}]},
        whole("Hi", usage=usage(1, 1)),
    ],
    ids=lambda answer: json.dumps(answer)[:40],
)
def test_an_answer_that_is_not_a_vector_for_each_input_is_a_failure(answer: Any):
    with pytest.raises(UpstreamFailed, match="not a list of embeddings"):
        read_embeddings(answer, 2)


def test_vectors_come_in_the_order_of_the_inputs_whatever_the_provider_does():
    answer = {"data": [{"index": 1, "embedding": [2]}, {"index": 0, "embedding": [1]}]}
    assert [each["embedding"] for each in read_embeddings(answer, 2)["data"]] == [[1], [2]]
    unnumbered = {"data": [{"embedding": [1]}, {"embedding": [2]}]}
    assert [each["embedding"] for each in read_embeddings(unnumbered, 2)["data"]] == [[1], [2]]


@pytest.mark.parametrize(
    ("given", "inputs"), [("a", 1), (["a"], 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1], [2, 3]], 2)]
)
def test_a_request_asks_for_as_many_vectors_as_it_has_texts_or_lists_of_tokens(given: Any, inputs: int):
    assert count_inputs({"input": given}) == inputs


def test_the_bound_covers_what_the_demo_counts():
    text = "a b, c! \u00fc\U0001f600 " * 50
    request = skin.EmbeddingsSkin().parse(json.dumps({"model": "m", "input": [text, text]}).encode(), HEADERS)
    assert request.prompt_tokens_bound >= 2 * count_tokens(text)
