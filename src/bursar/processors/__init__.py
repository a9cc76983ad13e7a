"""How to speak to one card processor. Here: the sandbox, which pretends; a real one comes behind the same protocol."""

from bursar.processors._protocol import Checkout, EventKind, InvalidEvent, Processor, ProcessorEvent
from bursar.processors._sandbox import SandboxProcessor

__all__ = ["Checkout", "EventKind", "InvalidEvent", "Processor", "ProcessorEvent", "SandboxProcessor"]
