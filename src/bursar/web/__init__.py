"""Floor 4: pages. One module per page; they call `actions` to write and `reports` to read, and decide nothing themselves."""

from bursar.web._app import create_web
from bursar.web._parts import WebParts

__all__ = ["WebParts", "create_web"]
