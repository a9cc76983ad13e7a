"""Converts what standard input holds with litellm's translators (its MIT part), for tests that hold ours against them.

In: a JSON list of `{"kind": …, "model": …, "body": …}`. Out: a list of what each became, or `{"refused": "the error's name"}`.
"""

import json
import os
import sys
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it would ask the network otherwise

import httpx
from litellm.llms.anthropic.chat.transformation import AnthropicConfig
from litellm.llms.anthropic.messages.adapters.transformation import LiteLLMAnthropicMessagesAdapter
from litellm.types.utils import ModelResponse

Json = dict[str, Any]


def chat_to_messages(model: str, body: Json) -> Json:
    config = AnthropicConfig()
    fields = {name: value for name, value in body.items() if name not in ("messages", "model")}
    optional = config.map_openai_params(fields, {}, model, drop_params=True)
    return config.transform_request(model, body["messages"], optional, litellm_params={}, headers={})


def message_to_completion(model: str, body: Json) -> Json:
    answered = httpx.Response(200, json=body, request=httpx.Request("POST", "http://127.0.0.1/"))
    made = AnthropicConfig().transform_parsed_response(
        completion_response=body, raw_response=answered, model_response=ModelResponse(model=model)
    )
    return made.model_dump(mode="json")


def messages_to_chat(model: str, body: Json) -> Json:
    asked, *_ = LiteLLMAnthropicMessagesAdapter().translate_anthropic_to_openai({**body, "model": model})
    return dict(asked)


def completion_to_message(model: str, body: Json) -> Json:
    made = LiteLLMAnthropicMessagesAdapter().translate_openai_response_to_anthropic(ModelResponse(**body))
    return dict(made)


def converted(case: Json) -> Any:
    try:
        return KINDS[case["kind"]](case["model"], case["body"])
    except Exception as error:  # noqa: BLE001 - whatever it raises is its refusal
        return {"refused": f"{type(error).__name__}: {error}"[:300]}


KINDS = {
    each.__name__: each for each in (chat_to_messages, message_to_completion, messages_to_chat, completion_to_message)
}


if __name__ == "__main__":
    found = [converted(case) for case in json.load(sys.stdin)]
    json.dump(
        found, sys.stdout, default=lambda value: value.model_dump() if hasattr(value, "model_dump") else str(value)
    )
