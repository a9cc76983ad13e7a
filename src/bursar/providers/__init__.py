"""How to speak to one upstream, per protocol. Knows no prices, no owners and no storage."""

from bursar.providers._anthropic import AnthropicUpstream
from bursar.providers._call import (
    CONNECT_SECONDS,
    FIRST_BYTE_SECONDS,
    IDLE_SECONDS,
    ChatCall,
    Pump,
    Timeouts,
    Upstream,
    has_output,
)
from bursar.providers._chunk import Chunk, decode_chunk
from bursar.providers._deltas import Deltas, Frame
from bursar.providers._demo import DEMO_TOKENS_PER_SECOND, DemoUpstream, count_tokens
from bursar.providers._embeddings import to_base64, to_floats
from bursar.providers._errors import (
    UpstreamFailed,
    UpstreamNeedsOperator,
    UpstreamOverloaded,
    UpstreamRefused,
    UpstreamTimedOut,
    UpstreamUnable,
)
from bursar.providers._local import discover_local
from bursar.providers._openai import OpenAiUpstream
from bursar.providers._openai_form import hides_reasoning
from bursar.providers._registry import PROTOCOLS, Providers
from bursar.providers._sse import SseParser, SseTooLarge

__all__ = [
    "CONNECT_SECONDS",
    "DEMO_TOKENS_PER_SECOND",
    "FIRST_BYTE_SECONDS",
    "IDLE_SECONDS",
    "PROTOCOLS",
    "AnthropicUpstream",
    "ChatCall",
    "Chunk",
    "Deltas",
    "DemoUpstream",
    "Frame",
    "OpenAiUpstream",
    "Providers",
    "Pump",
    "SseParser",
    "SseTooLarge",
    "Timeouts",
    "Upstream",
    "UpstreamFailed",
    "UpstreamNeedsOperator",
    "UpstreamOverloaded",
    "UpstreamRefused",
    "UpstreamTimedOut",
    "UpstreamUnable",
    "count_tokens",
    "decode_chunk",
    "discover_local",
    "has_output",
    "hides_reasoning",
    "to_base64",
    "to_floats",
]
