"""Minting, hashing and comparing secrets. What must be read back is sealed by `storage.Sealer`; what is only compared is hashed."""

import hashlib
import hmac
import secrets

TOKEN_BYTES = 32
"""256 random bits in every session, one-time link and key."""

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def mint_token() -> str:
    """A URL-safe secret of 256 random bits."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def hash_secret(secret: str) -> str:
    """Lowercase SHA-256 hex (64 characters). Enough for secrets of 256 random bits; passwords have their own slow hash."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def same(one: str, other: str) -> bool:
    """Compares in constant time."""
    return hmac.compare_digest(one.encode("utf-8", "surrogateescape"), other.encode("utf-8", "surrogateescape"))


def tag(secret: bytes, purpose: str, text: str, length: int = 43) -> str:
    """A keyed checksum over `text`, bound to one purpose: base 62, `length` characters at most 43."""
    digest = hmac.digest(secret, f"{purpose}\0{text}".encode("utf-8", "surrogateescape"), "sha256")
    return base62(int.from_bytes(digest))[:length]


def derive(secret: bytes, purpose: str) -> bytes:
    """A 32-byte key for one purpose from the installation secret."""
    return hmac.digest(secret, f"bursar:{purpose}".encode(), "sha256")


def base62(number: int) -> str:
    digits = []
    while number:
        number, rest = divmod(number, 62)
        digits.append(_ALPHABET[rest])
    return "".join(reversed(digits)).rjust(43, "0")
