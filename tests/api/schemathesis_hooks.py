"""Loaded by schemathesis: most of the bodies it makes up name a model that is there, so that they get past the plan."""

import random
from typing import Any

import schemathesis

MODELS = {"/api/v1/embeddings": ["demo/embed-1"]}
CHAT_MODELS = ["demo/free-1", "demo/echo-1"]
ID_CHARACTERS_MAX = 120
LEFT_ALONE = 0.1
"""So many bodies keep the names that were made up."""


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, **_: Any) -> None:
    """Changes no value that is wrong as it is: what the description forbids has to be refused."""
    body = case.body
    if not isinstance(body, dict) or case.method != "POST":
        return
    draw = random.Random(repr(body))
    named = body.get("model")
    if (named is None or (isinstance(named, str) and len(named) <= ID_CHARACTERS_MAX)) and draw.random() > LEFT_ALONE:
        case.body = {**body, "model": draw.choice(MODELS.get(case.operation.path, CHAT_MODELS))}
