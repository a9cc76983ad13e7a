"""Pure rules of organizations: names, slugs, seats."""

import re
import unicodedata

from bursar.kernel.errors import InvalidField

SEATS_DEFAULT = 10
"""Members an organization may have unless the operator raised its cap."""
NAME_CHARACTERS_MAX = 80
SLUG_CHARACTERS_MIN = 2
SLUG_CHARACTERS_MAX = 48
SEATS_MAX = 100_000
"""More than that no operator means."""
RESERVED_SLUGS = frozenset(
    {"new", "personal", "admin", "operator", "settings", "orgs", "organizations", "api", "static", "me", "deleted"}
)

_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def require_organization_name(name: str) -> str:
    name = " ".join(unicodedata.normalize("NFC", name).split())
    if not name:
        raise InvalidField("name", "Please enter a name for the organization.")
    if len(name) > NAME_CHARACTERS_MAX or any(unicodedata.category(c).startswith("C") for c in name):
        raise InvalidField("name", f"A name has at most {NAME_CHARACTERS_MAX} ordinary characters.")
    return name


def require_slug(slug: str) -> str:
    slug = slug.strip().lower()
    if not SLUG_CHARACTERS_MIN <= len(slug) <= SLUG_CHARACTERS_MAX or not _SLUG.fullmatch(slug):
        raise InvalidField(
            "slug",
            f"Use {SLUG_CHARACTERS_MIN} to {SLUG_CHARACTERS_MAX} lowercase letters, digits and single hyphens, like acme-robotics.",
        )
    if slug in RESERVED_SLUGS:
        raise InvalidField("slug", "That word is reserved; please choose another.")
    return slug


def slug_from(name: str) -> str:
    """A slug suggested by a name: `"Acme Robotics GmbH"` → `"acme-robotics-gmbh"`; may be empty."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:SLUG_CHARACTERS_MAX].rstrip("-")
