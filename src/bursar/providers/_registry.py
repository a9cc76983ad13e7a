from collections.abc import Mapping

from bursar.kernel.clock import Clock
from bursar.providers._call import Upstream
from bursar.providers._demo import DemoUpstream
from bursar.providers._openai import OpenAiUpstream

PROTOCOLS = frozenset({"openai", "demo"})


class Providers:
    """Every protocol's upstream, made once per process. `pace` slows or speeds up the demo provider (0: no waiting)."""

    def __init__(self, *, clock: Clock, pace: float = 1.0) -> None:
        self._upstreams: Mapping[str, Upstream] = {
            "openai": OpenAiUpstream(clock=clock),
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
