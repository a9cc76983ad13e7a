"""The official `openrouter` client, unmodified but for the server URL, validating every answer. Run by `test_clients.py`."""

import json
import os

import openrouter
from openrouter import OpenRouter, errors
from openrouter.utils import BackoffStrategy, RetryConfig

BASE, MODEL = os.environ["API_BASE"], "demo/echo-1"
QUESTION = [{"role": "user", "content": "Tell me about holds"}]
SHORT = RetryConfig(
    "backoff", BackoffStrategy(1, 1, 1.0, 1), retry_connection_errors=False
)  # the default goes on for an hour


def client(name):
    return OpenRouter(api_key=os.environ[name], server_url=BASE, retry_config=SHORT, timeout_ms=30_000)


ours, management, broke = client("API_KEY"), client("MANAGEMENT_KEY"), client("BROKE_KEY")
made_up = OpenRouter(api_key="sk-bursar-v1-made-up", server_url=BASE, retry_config=SHORT)
found = {"version": openrouter.VERSION if hasattr(openrouter, "VERSION") else "", "errors": {}}

answer = ours.chat.send(model=MODEL, messages=QUESTION)
found["chat"] = {
    "id": answer.id,
    "object": answer.object,
    "model": answer.model,
    "text": answer.choices[0].message.content,
    "finish_reason": answer.choices[0].finish_reason,
    "total_tokens": int(answer.usage.total_tokens),
    "cost": answer.usage.cost,
    "cost_details": answer.usage.cost_details.model_dump(),
}

chunks = list(ours.chat.send(model=MODEL, messages=QUESTION, stream=True))
found["stream"] = {
    "text": "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices),
    "finish_reasons": [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason],
    "usage_at": [number - len(chunks) for number, chunk in enumerate(chunks) if chunk.usage],
    "total_tokens": int(chunks[-1].usage.total_tokens),
    "cost": chunks[-1].usage.cost,
}

response = ours.responses.send(model=MODEL, input="Tell me about holds", instructions="Be brief", metadata={"a": "b"})
found["response"] = {
    "id": response.id,
    "object": response.object,
    "status": response.status,
    "text": response.output[0].content[0].text,
    "kinds": [item.type for item in response.output],
    "metadata": response.metadata,
    "total_tokens": response.usage.total_tokens,
    "cached_tokens": response.usage.input_tokens_details.cached_tokens,
    "cost": response.usage.cost,
    "cost_details": response.usage.cost_details.model_dump(),
}
tool = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}, "strict": True}
asked = {"tools": [tool], "tool_choice": {"type": "function", "name": "weather"}, "temperature": 0.5, "top_p": 1}
repeated = ours.responses.send(model=MODEL, input=[{"role": "user", "content": "Hi"}], **asked)
found["response_tools"] = [[type(each).__name__ for each in repeated.tools], repeated.tool_choice.name]
told = list(ours.responses.send(model=MODEL, input="Tell me about holds", instructions="Be brief", stream=True))
found["response_stream"] = {
    "text": "".join(event.delta for event in told if event.type == "response.output_text.delta"),
    "classes": sorted({type(event).__name__ for event in told}),
    "numbered": [event.sequence_number for event in told] == list(range(len(told))),
    "last": told[-1].type,
    "output_text": told[-1].response.output[0].content[0].text,
    "cost": told[-1].response.usage.cost,
}

embedded = ours.embeddings.generate(model="demo/embed-1", input=["Hello there", "Goodbye"], dimensions=8)
packed = ours.embeddings.generate(model="demo/embed-1", input="Hello there", dimensions=8, encoding_format="base64")
found["embeddings"] = {
    "object": embedded.object,
    "model": embedded.model,
    "sizes": [len(each.embedding) for each in embedded.data],
    "packed": packed.data[0].embedding,
    "first": embedded.data[0].embedding,
    "prompt_tokens": embedded.usage.prompt_tokens,
    "cost": embedded.usage.cost,
}

pages, page = [], ours.models.list(limit=3)
while page is not None:
    pages.append([model.id for model in page.result.data])
    page = page.next()
found["models"] = {
    "pages": pages,
    "all": [model.id for model in ours.models.list().result.data],
}

key = ours.api_keys.get_current_key_metadata().data
found["key"] = {"label": key.label, "usage": key.usage, "is_management_key": key.is_management_key}
found["management_key"] = {"is_management_key": management.api_keys.get_current_key_metadata().data.is_management_key}

generation = ours.generations.get_generation(id=answer.id).data
found["generation"] = {
    "id": generation.id,
    "total_cost": generation.total_cost,
    "model": generation.model,
    "native_tokens_completion": generation.native_tokens_completion,
    "streamed": generation.streamed,
}

credits_ = management.credits.get_credits().data
found["credits"] = {"total_credits": credits_.total_credits, "total_usage": credits_.total_usage}


def fails(name, work):
    try:
        work()
    except errors.OpenRouterError as error:
        inner = getattr(getattr(error, "data", None), "error", None)
        found["errors"][name] = {
            "type": type(error).__name__,
            "status": error.status_code,
            "message": getattr(inner, "message", None),
            "code": getattr(inner, "code", None),
        }


def chat(client=ours, **more):
    return client.chat.send(**{"model": MODEL, "messages": QUESTION, **more})


fails("400", lambda: chat(model="demo/eco-1"))
fails("400 response", lambda: ours.responses.send(model=MODEL, input="Hi", previous_response_id="resp_1"))
fails("402 response", lambda: broke.responses.send(model=MODEL, input="Hi"))
fails("400 embeddings", lambda: ours.embeddings.generate(model=MODEL, input="Hi"))
fails("401", lambda: chat(made_up))
fails("401 key", made_up.api_keys.get_current_key_metadata)
fails("402", lambda: chat(broke))
fails("403", lambda: chat(management))
fails("403 credits", ours.credits.get_credits)
fails("404", lambda: chat(provider={"only": ["nobody"]}))
fails("404 generation", lambda: ours.generations.get_generation(id="gen-none"))
fails("502", lambda: chat(messages=[{"role": "user", "content": "[[fail:500]]"}]))
fails("503", lambda: chat(messages=[{"role": "user", "content": "[[fail:503]]"}]))
fails("stream 402", lambda: list(chat(broke, stream=True)))

last = list(chat(messages=[{"role": "user", "content": "[[fail:cut]]"}], stream=True))
found["errors"]["in stream"] = [
    {"code": int(chunk.error.code), "message": chunk.error.message} for chunk in last if chunk.error
]

told = list(ours.responses.send(model=MODEL, input="[[fail:cut]]", stream=True))
found["errors"]["in response"] = [event.type for event in told[-2:]] + [told[-1].response.error.message]

print(json.dumps(found, default=str))
