"""Bursar: a self-hosted LLM gateway for companies."""

__version__ = "0.1.0"
