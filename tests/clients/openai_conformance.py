"""The official `openai` client, unmodified but for the base URL. Run by `test_clients.py` in an environment of its own."""

import json
import os

import openai

BASE, MODEL = os.environ["API_BASE"], "demo/echo-1"
QUESTION = [{"role": "user", "content": "Tell me about holds"}]

client = openai.OpenAI(base_url=BASE, api_key=os.environ["API_KEY"])
found = {"version": openai.__version__, "errors": {}}

answer = client.chat.completions.create(model=MODEL, messages=QUESTION)
found["chat"] = {
    "id": answer.id,
    "object": answer.object,
    "model": answer.model,
    "text": answer.choices[0].message.content,
    "role": answer.choices[0].message.role,
    "finish_reason": answer.choices[0].finish_reason,
    "total_tokens": answer.usage.total_tokens,
    "reasoning_tokens": answer.usage.completion_tokens_details.reasoning_tokens,
    "cost": answer.usage.cost,
}

raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=QUESTION, max_tokens=3)
found["generation_header"] = raw.headers["x-generation-id"] == raw.parse().id
found["cut"] = raw.parse().choices[0].finish_reason

chunks = list(client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True))
found["stream"] = {
    "text": "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices),
    "finish_reasons": [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason],
    "usage_at": [number - len(chunks) for number, chunk in enumerate(chunks) if chunk.usage is not None],
    "total_tokens": chunks[-1].usage.total_tokens,
    "cost": chunks[-1].usage.cost,
    "ids": sorted({chunk.id for chunk in chunks}),
}
with client.chat.completions.stream(model=MODEL, messages=QUESTION) as stream:
    found["helper_text"] = stream.get_final_completion().choices[0].message.content

response = client.responses.create(
    model=MODEL, input="Tell me about holds", instructions="Be brief", metadata={"a": "b"}
)
found["response"] = {
    "id": response.id,
    "object": response.object,
    "status": response.status,
    "text": response.output_text,
    "kinds": [item.type for item in response.output],
    "metadata": response.metadata,
    "total_tokens": response.usage.total_tokens,
    "cached_tokens": response.usage.input_tokens_details.cached_tokens,
    "cost": response.usage.cost,
}
told = list(client.responses.create(model=MODEL, input="Tell me about holds", instructions="Be brief", stream=True))
found["response_stream"] = {
    "text": "".join(event.delta for event in told if event.type == "response.output_text.delta"),
    "classes": sorted({type(event).__name__ for event in told}),
    "numbered": [event.sequence_number for event in told] == list(range(len(told))),
    "last": told[-1].type,
    "output_text": told[-1].response.output_text,
    "cost": told[-1].response.usage.cost,
}
with client.responses.stream(model=MODEL, input="Tell me about holds", instructions="Be brief") as stream:
    found["response_helper_text"] = stream.get_final_response().output_text
found["response_cut"] = client.responses.create(model=MODEL, input="Hi", max_output_tokens=3).incomplete_details.reason

EMBEDDER = "demo/embed-1"
embedded = client.embeddings.create(model=EMBEDDER, input=["Hello there", "Goodbye"], dimensions=8)
found["embeddings"] = {
    "object": embedded.object,
    "model": embedded.model,
    "sizes": [len(each.embedding) for each in embedded.data],
    "same": embedded.data[0].embedding
    == client.embeddings.create(model=EMBEDDER, input="Hello there", dimensions=8).data[0].embedding,
    "as_floats": client.embeddings.create(model=EMBEDDER, input="Hello there", dimensions=8, encoding_format="float")
    .data[0]
    .embedding,
    "first": embedded.data[0].embedding,
    "prompt_tokens": embedded.usage.prompt_tokens,
    "cost": embedded.usage.cost,
}

found["models"] = [model.id for model in client.models.list()]
found["key"] = client.get("/key", cast_to=object)
found["generation"] = client.get("/generation", cast_to=object, options={"params": {"id": answer.id}})
found["credits"] = client.with_options(api_key=os.environ["MANAGEMENT_KEY"]).get("/credits", cast_to=object)


def fails(name, work):
    try:
        work()
    except openai.APIStatusError as error:
        found["errors"][name] = {
            "type": type(error).__name__,
            "status": error.status_code,
            "message": error.body["message"] if isinstance(error.body, dict) else None,
            "code": error.body.get("code") if isinstance(error.body, dict) else None,
        }


def chat(client=client, **more):
    return client.chat.completions.create(**{"model": MODEL, "messages": QUESTION, **more})


fails("400", lambda: chat(model="demo/eco-1"))
fails("400 type", lambda: chat(max_tokens=-1))
fails("400 response", lambda: client.responses.create(model=MODEL, input="Hi", store=True))
fails("400 response tool", lambda: client.responses.create(model=MODEL, input="Hi", tools=[{"type": "web_search"}]))
fails("400 embeddings", lambda: client.embeddings.create(model=MODEL, input="Hi"))
fails("401", lambda: chat(client.with_options(api_key="sk-bursar-v1-made-up")))
fails("402", lambda: chat(client.with_options(api_key=os.environ["BROKE_KEY"])))
fails("403", lambda: chat(client.with_options(api_key=os.environ["MANAGEMENT_KEY"])))
fails("404", lambda: chat(extra_body={"provider": {"only": ["nobody"]}}))
fails("404 generation", lambda: client.get("/generation", cast_to=object, options={"params": {"id": "gen-none"}}))
quick = client.with_options(max_retries=0)
fails("502", lambda: chat(quick, messages=[{"role": "user", "content": "[[fail:500]]"}]))
fails("stream 402", lambda: chat(client.with_options(api_key=os.environ["BROKE_KEY"]), stream=True))
try:
    list(chat(quick, messages=[{"role": "user", "content": "[[fail:cut]]"}], stream=True))
except openai.APIError as error:
    found["errors"]["in stream"] = {"type": type(error).__name__, "message": error.message}

told = list(quick.responses.create(model=MODEL, input="[[fail:cut]]", stream=True))
found["errors"]["in response"] = [event.type for event in told[-2:]] + [told[-1].response.error.message]

print(json.dumps(found))
