"""What an address, a name and a password must look like."""

import re
import unicodedata

from bursar.identity._guessable import why_weak
from bursar.kernel.errors import InvalidField

EMAIL_CHARACTERS_MAX = 254
NAME_CHARACTERS_MAX = 100
PASSWORD_CHARACTERS_MIN = 10
PASSWORD_BYTES_MAX = 1024

_EMAIL = re.compile(r"""[^@\s<>()\[\]\\,;:"]{1,64}@[^@\s<>()\[\]\\,;:".]+(\.[^@\s<>()\[\]\\,;:".]+)*""")
"""Without what separates addresses in a message's header: one address stays one recipient."""


def normalize_email(email: str) -> str:
    """What two spellings of one address have in common: NFC, case folded. Dots and plus signs stay: they can matter."""
    return unicodedata.normalize("NFC", email.strip()).casefold()


def require_email(email: str) -> str:
    """The address, trimmed. Raises `InvalidField`."""
    email = unicodedata.normalize("NFC", email.strip())
    if len(email) > EMAIL_CHARACTERS_MAX or not email.isprintable() or not _EMAIL.fullmatch(email):
        raise InvalidField("email", "That is not an e-mail address; write it like ana@example.com.")
    return email


def require_name(name: str) -> str:
    """The name with its spaces tidied. Raises `InvalidField`."""
    name = " ".join(unicodedata.normalize("NFC", name).split())
    if not name:
        raise InvalidField("name", "Please enter a name.")
    if len(name) > NAME_CHARACTERS_MAX or any(unicodedata.category(c).startswith("C") for c in name):
        raise InvalidField("name", f"A name has at most {NAME_CHARACTERS_MAX} ordinary characters.")
    return name


def require_password(password: str, *about: str) -> str:
    """Long enough, and not what is guessed first. `about`: the person's name and address. Raises `InvalidField`, saying why."""
    if len(password) < PASSWORD_CHARACTERS_MIN:
        raise InvalidField("password", f"A password has at least {PASSWORD_CHARACTERS_MIN} characters.")
    if len(password.encode("utf-8", "surrogatepass")) > PASSWORD_BYTES_MAX:
        raise InvalidField("password", f"A password has at most {PASSWORD_BYTES_MAX} bytes.")
    weak = why_weak(password, *about)
    if weak is not None:
        raise InvalidField("password", weak)
    return password
