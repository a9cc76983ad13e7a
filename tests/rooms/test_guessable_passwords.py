"""What is guessed first is refused, with the reason; what people can remember and nobody guesses is taken."""

import pytest

from bursar import identity
from bursar.identity import _guessable
from bursar.kernel.errors import InvalidField

ABOUT = ("Ana Ruiz", "ana.ruiz@acme.example.com")


@pytest.mark.parametrize(
    "password",
    [
        *("password12", "PassWord!!", "P@ssw0rd2026", "liverpool2024!", "!!password!!", "manchester", "Winter2026!!"),
        *("correcthorsebatterystaple", "1q2w3e4r5t6y", "dragon-dragon", "hunter2hunter2", "ＰＡＳＳＷＯＲＤ１２"),
    ],
)
def test_leaked_ones_and_what_is_made_of_them(password: str):
    why = _guessable.why_weak(password, *ABOUT)
    assert why is not None
    assert "leaked" in why


@pytest.mark.parametrize(
    "password", ["qwertyuiop12", "1qaz2wsx3edc", "abcdefghijkl", "0987654321", "123-456-7890", "asdf;lkjasdf"]
)
def test_keys_beside_each_other(password: str):
    assert "keys beside" in (_guessable.why_weak(password) or "")


@pytest.mark.parametrize("password", ["aaaaaaaaaaaa", "abcabcabcabc", "11112222333344", "x" * 1000, "ab1ab1ab1ab1a"])
def test_repeats(password: str):
    assert "repeats" in (_guessable.why_weak(password) or "")


@pytest.mark.parametrize(
    "password",
    ["AnaRuiz2026", "4na.ru1z2026", "ana.ruiz@acme.example.com", "Bursar-2026!", "Acme-2026-acme", "bursarbursar1"],
)
def test_the_person_and_the_product(password: str):
    assert "name or an address" in (_guessable.why_weak(password, *ABOUT) or "")


@pytest.mark.parametrize(
    "password",
    [
        *("correct horse battery", "a password long enough", "my dog likes rain", "purple lamp sings", "tr0ub4dor&3"),
        *("Xk3#9vTq2!", "ana likes green lamps", "сорок два тополя", "密碼很長而且沒有人知道", "monkey&dragon&lamp"),
    ],
)
def test_others_are_taken(password: str):
    assert identity.require_password(password, *ABOUT) == password


def test_the_refusal_names_the_field_and_never_the_password():
    with pytest.raises(InvalidField) as refusal:
        identity.require_password("liverpool2024!")
    assert refusal.value.field == "password"
    assert "liverpool" not in str(refusal.value)


def test_the_list_is_what_the_docs_say():
    """Sorted, in small letters, each once: what is compared with it is in small letters too."""
    lines = _guessable._FILE.read_text(encoding="utf-8").splitlines()
    assert lines == sorted(set(lines))
    assert all(line == line.casefold() for line in lines)
    assert 10_000 < len(lines) < 12_000
