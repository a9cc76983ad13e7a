"""The composition: the only place that builds long-lived objects and that knows every room."""

from bursar.app._catalog import CatalogHolder, look_at_catalog
from bursar.app._installation import (
    DEMO_MARK,
    SYSTEM_CLOCK,
    Installation,
    NothingToLookAt,
    join_installation,
    look_at_installation,
    look_at_schema,
    make_database,
    open_copy,
    open_installation,
)
from bursar.app._server import Server, make_mailer, run_in_loop

__all__ = [
    "DEMO_MARK",
    "SYSTEM_CLOCK",
    "CatalogHolder",
    "Installation",
    "NothingToLookAt",
    "Server",
    "join_installation",
    "look_at_catalog",
    "look_at_installation",
    "look_at_schema",
    "make_database",
    "make_mailer",
    "open_copy",
    "open_installation",
    "run_in_loop",
]
