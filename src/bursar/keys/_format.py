"""The shape of a key: `sk-bursar-v1-` + 43 random characters + 8 of a checksum keyed by the installation secret.

A made-up key fails the checksum and is refused from memory; it never reaches the database.
"""

from bursar.kernel import secrets

KEY_PREFIX = "sk-bursar-v1-"
RANDOM_CHARACTERS = 43
CHECKSUM_CHARACTERS = 8
KEY_CHARACTERS = len(KEY_PREFIX) + RANDOM_CHARACTERS + CHECKSUM_CHARACTERS


def hash_of(plaintext: str) -> str:
    """What is stored of a key, and its name on the wire."""
    return secrets.hash_secret(plaintext)


def label_of(plaintext: str) -> str:
    """`sk-bursar-v1-abc...wxyz`: enough to recognize it by."""
    return f"{plaintext[: len(KEY_PREFIX) + 3]}...{plaintext[-4:]}"


class KeyChecker:
    """Mints keys and tells this installation's keys from anything else."""

    def __init__(self, installation_secret: bytes) -> None:
        self._secret = secrets.derive(installation_secret, "key-checksum")

    def mint(self) -> str:
        """A new plaintext key, to be shown once and never stored."""
        body = KEY_PREFIX + secrets.mint_token()
        return body + self._checksum(body)

    def is_ours(self, text: str) -> bool:
        """Whether the checksum fits; says nothing of whether the key still works."""
        if len(text) != KEY_CHARACTERS or not text.startswith(KEY_PREFIX) or not text.isascii():
            return False
        body, checksum = text[:-CHECKSUM_CHARACTERS], text[-CHECKSUM_CHARACTERS:]
        return secrets.same(self._checksum(body), checksum)

    def _checksum(self, body: str) -> str:
        return secrets.tag(self._secret, "key", body, CHECKSUM_CHARACTERS)
