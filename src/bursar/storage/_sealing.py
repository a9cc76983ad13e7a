"""Encryption at rest for what must be read back: mails that wait, later provider credentials.

AES-256-GCM; the row's id is bound in as associated data, so that a sealed value moved to another row does not open.
Shape of a sealed value: 1 byte key id, 12 bytes nonce, ciphertext with its 16-byte tag.
"""

import os
from contextlib import suppress

from bursar.kernel import errors, secrets

_KEY_ID = 1
_SHORTEST = 1 + 12 + 16


class CannotUnseal(errors.SettingsError):
    """The installation secret is not the one this value was sealed with, or the value was altered."""


class Sealer:
    """Seals with a key derived from the installation secret; the secret itself is never stored in the database."""

    def __init__(self, installation_secret: bytes) -> None:
        # Imported here: a command that seals nothing should not pay for the library.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._cipher = AESGCM(secrets.derive(installation_secret, "seal"))

    def seal(self, row_id: str, plain: bytes) -> bytes:
        nonce = os.urandom(12)
        return bytes([_KEY_ID]) + nonce + self._cipher.encrypt(nonce, plain, row_id.encode())

    def unseal(self, row_id: str, sealed: bytes) -> bytes:
        """Raises `CannotUnseal` when the secret, the row or the bytes are not the ones it was sealed with."""
        from cryptography.exceptions import InvalidTag

        if sealed[:1] == bytes([_KEY_ID]) and len(sealed) >= _SHORTEST:
            with suppress(InvalidTag):
                return self._cipher.decrypt(sealed[1:13], sealed[13:], row_id.encode())
        raise CannotUnseal(
            f"The stored value of {row_id} does not open with this installation's secret.",
            remedy="Start Bursar with the secret file the data was written with.",
        )
