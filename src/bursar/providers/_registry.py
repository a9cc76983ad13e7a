from collections.abc import Mapping

from bursar.kernel.clock import Clock
from bursar.providers._anthropic import AnthropicUpstream
from bursar.providers._call import Upstream
from bursar.providers._demo import DemoUpstream
from bursar.providers._http import HttpClient
from bursar.providers._openai import OpenAiUpstream

PROTOCOLS = frozenset({"anthropic", "demo", "openai"})


class Providers:
    """Every protocol's upstream, made once per process, all on one HTTP client. `pace` slows or speeds up the demo provider (0: no waiting)."""

    def __init__(self, *, clock: Clock, pace: float = 1.0) -> None:
        http = HttpClient()
        self._upstreams: Mapping[str, Upstream] = {
            "anthropic": AnthropicUpstream(clock=clock, http=http),
            "openai": OpenAiUpstream(clock=clock, http=http),
            "demo": DemoUpstream(pace=pace, clock=clock),
        }

    def upstream_for(self, protocol: str) -> Upstream:
        """Raises `ValueError` for a protocol that is not built; the catalogue lets none through."""
        if protocol not in self._upstreams:
            raise ValueError(f"protocol {protocol!r} is not built; known: {', '.join(sorted(PROTOCOLS))}")
        return self._upstreams[protocol]

    async def close(self) -> None:
        for upstream in self._upstreams.values():
            await upstream.close()
