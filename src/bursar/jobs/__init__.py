"""Floor 4: what runs by the clock or from the outbox."""

from bursar.jobs._runner import Jobs

__all__ = ["Jobs"]
