"""Secrets: minted at random, hashed, compared in constant time, and sealed by purpose."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.kernel import secrets

SECRET = b"an installation's secret of some length"


def test_tokens_are_long_url_safe_and_never_the_same():
    tokens = {secrets.mint_token() for _ in range(1000)}
    assert len(tokens) == 1000
    assert all(len(token) == 43 and token.replace("-", "").replace("_", "").isalnum() for token in tokens)


def test_a_hash_is_plain_sha_256_in_lowercase_hex():
    assert secrets.hash_secret("sk-bursar-v1-x") == hashlib.sha256(b"sk-bursar-v1-x").hexdigest()


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
def test_only_equal_texts_are_the_same(one: str, other: str):
    assert secrets.same(one, one)
    assert secrets.same(one, other) == (one == other)


def test_bytes_that_were_no_utf_8_can_be_hashed_and_compared():
    strange = b"sk-\xff\xfe".decode("utf-8", "surrogateescape")
    assert secrets.hash_secret(strange) == hashlib.sha256(b"sk-\xff\xfe").hexdigest()
    assert secrets.same(strange, strange)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=50), st.integers(1, 43))
def test_a_tag_depends_on_secret_purpose_and_text(text: str, length: int):
    tag = secrets.tag(SECRET, "key", text)
    assert len(tag) == 43
    assert tag.isalnum()
    assert secrets.tag(SECRET, "key", text, length) == tag[:length]
    assert tag != secrets.tag(SECRET + b".", "key", text)
    assert tag != secrets.tag(SECRET, "csrf", text)
    assert tag != secrets.tag(SECRET, "key", text + "x")


def test_keys_for_two_purposes_are_32_bytes_and_unrelated():
    assert len(secrets.derive(SECRET, "seal")) == 32
    assert secrets.derive(SECRET, "seal") != secrets.derive(SECRET, "key-checksum")
    assert SECRET not in secrets.derive(SECRET, "seal")


@pytest.mark.parametrize("number", [0, 1, 61, 62, 2**256 - 1])
def test_base_62_always_has_43_characters_and_reads_back(number: int):
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    text = secrets.base62(number)
    assert len(text) == 43
    value = 0
    for character in text:
        value = value * 62 + alphabet.index(character)
    assert value == number
