"""Floor 4: JSON over HTTP, in OpenRouter's shapes. The data plane (chat completions) is `gateway`; this is everything else."""

from bursar.api._app import ApiParts, create_api

__all__ = ["ApiParts", "create_api"]
