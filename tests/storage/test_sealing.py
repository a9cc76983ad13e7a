"""Sealing: what must be read back opens only where, and with what, it was sealed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.storage import Sealer
from bursar.storage._sealing import CannotUnseal

SEALER = Sealer(b"one installation's secret, long enough")
SEALED = SEALER.seal("msg_1", b"a link")


@given(st.binary(max_size=500), st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_what_was_sealed_opens_at_its_row(plain: bytes, row: str):
    sealed = SEALER.seal(row, plain)
    assert SEALER.unseal(row, sealed) == plain
    assert len(plain) < 8 or plain not in sealed


def test_the_same_thing_sealed_twice_looks_different():
    assert SEALER.seal("msg_1", b"a link") != SEALED


def test_it_does_not_open_at_another_row():
    with pytest.raises(CannotUnseal, match="msg_2"):
        SEALER.unseal("msg_2", SEALED)


def test_it_does_not_open_with_another_secret():
    with pytest.raises(CannotUnseal) as refusal:
        Sealer(b"another installation's secret, as long").unseal("msg_1", SEALED)
    assert "secret" in (refusal.value.remedy or "")


@pytest.mark.parametrize("position", range(len(SEALED)))
def test_it_does_not_open_when_one_byte_is_another(position: int):
    altered = bytearray(SEALED)
    altered[position] ^= 1
    with pytest.raises(CannotUnseal):
        SEALER.unseal("msg_1", bytes(altered))


@pytest.mark.parametrize("length", range(len(SEALED)))
def test_it_does_not_open_when_it_is_cut_short(length: int):
    with pytest.raises(CannotUnseal):
        SEALER.unseal("msg_1", SEALED[:length])
