"""The official `anthropic` client, unmodified but for the base URL. Run by `test_anthropic.py` in an environment of its own."""

import json
import os

import anthropic

KEY, MODEL, TOOL_MODEL = os.environ["API_KEY"], "demo/echo-1", "acme/prime"
QUESTION = [{"role": "user", "content": "Tell me about holds"}]
WEATHER = {
    "name": "weather",
    "description": "The weather at a place",
    "input_schema": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
}

client = anthropic.Anthropic(base_url=os.environ["ANTHROPIC_BASE"], auth_token=KEY)
found = {"version": anthropic.__version__, "errors": {}}


def ask(client=client, **more):
    return client.messages.create(**{"model": MODEL, "max_tokens": 500, "messages": QUESTION, **more})


def told(message):
    return {
        "content": [json.loads(block.to_json()) for block in message.content],
        "stop_reason": message.stop_reason,
        "usage": [message.usage.input_tokens, message.usage.output_tokens],
    }


answer = ask()
found["message"] = {
    **told(answer),
    "id": answer.id,
    "type": type(answer).__name__,
    "block": type(answer.content[0]).__name__,
    "role": answer.role,
    "model": answer.model,
    "cost": answer.usage.cost,
}
raw = client.messages.with_raw_response.create(model=MODEL, max_tokens=3, messages=QUESTION)
found["generation_header"] = raw.headers["x-generation-id"] == raw.parse().id
found["cut"] = raw.parse().stop_reason
found["with system and blocks"] = ask(
    system=[{"type": "text", "text": "Be brief", "cache_control": {"type": "ephemeral"}}],
    messages=[{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
    metadata={"user_id": "u-1"},
    stop_sequences=["END"],
    extra_body={"temperature": 0.5},
).type

with client.messages.stream(model=MODEL, max_tokens=500, messages=QUESTION) as stream:
    text = "".join(stream.text_stream)
    found["stream"] = {**told(stream.get_final_message()), "text": text}
events = list(ask(stream=True))
found["events"] = [event.type for event in events]
found["stream cost"] = next(event for event in events if event.type == "message_delta").usage.cost
with client.messages.stream(model=MODEL, max_tokens=3, messages=QUESTION) as stream:
    found["stream cut"] = stream.get_final_message().stop_reason


def talk(turn):
    """A question, the tool it calls, and the answer to the tool's result."""
    asked = [{"role": "user", "content": "What is the weather in Rome?"}]
    first = turn(model=TOOL_MODEL, max_tokens=500, messages=asked, tools=[WEATHER])
    call = next(block for block in first.content if block.type == "tool_use")
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "Sunny"}
    asked += [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    last = turn(model=TOOL_MODEL, max_tokens=500, messages=asked, tools=[WEATHER])
    return [told(first), told(last)]


def streamed(**request):
    with client.messages.stream(**request) as stream:
        return stream.get_final_message()


found["tools"] = talk(client.messages.create)
found["tools streamed"] = talk(streamed)

found["api_key"] = ask(anthropic.Anthropic(base_url=os.environ["ANTHROPIC_BASE"], api_key=KEY)).type
headers = {"X-Api-Key": KEY, "Authorization": anthropic.Omit()}
found["x-api-key"] = ask(client.with_options(default_headers=headers)).type


def fails(name, work):
    try:
        work()
    except anthropic.APIStatusError as error:
        body = error.body if isinstance(error.body, dict) else {}
        found["errors"][name] = {
            "type": type(error).__name__,
            "status": error.status_code,
            "kind": body.get("error", {}).get("type"),
            "message": body.get("error", {}).get("message"),
            "generation": body.get("request_id"),
        }


quick = client.with_options(max_retries=0)
fails("400", lambda: ask(model="demo/eco-1"))
fails("400 block", lambda: ask(messages=[{"role": "user", "content": [{"type": "odd"}]}]))
fails("400 tool", lambda: ask(tools=[{"type": "web_search_20250305", "name": "web_search"}]))
fails("401", lambda: ask(client.with_options(auth_token="sk-bursar-v1-made-up")))
fails("402", lambda: ask(client.with_options(auth_token=os.environ["BROKE_KEY"])))
fails("403", lambda: ask(client.with_options(auth_token=os.environ["MANAGEMENT_KEY"])))
fails("404", lambda: ask(extra_body={"provider": {"only": ["nobody"]}}))
fails("503", lambda: ask(quick, messages=[{"role": "user", "content": "[[fail:503]]"}]))
fails("504", lambda: ask(quick, messages=[{"role": "user", "content": "[[fail:timeout]]"}]))
fails("stream 402", lambda: ask(client.with_options(auth_token=os.environ["BROKE_KEY"]), stream=True))
fails("count_tokens", lambda: client.messages.count_tokens(model=MODEL, messages=QUESTION))
fails("in stream", lambda: list(ask(quick, messages=[{"role": "user", "content": "[[fail:cut]]"}], stream=True)))

print(json.dumps(found))
