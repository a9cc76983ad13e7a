"""Errors: a name, ids, one sentence, a status; and the drawing of the tree is true."""

import importlib
import inspect
import pkgutil
import re

import pytest

import bursar
from bursar.kernel import errors
from bursar.kernel.errors import BursarError


def all_errors() -> list[type[BursarError]]:
    for module in pkgutil.walk_packages(bursar.__path__, "bursar."):
        if not module.name.endswith("__main__") and ".migrations" not in module.name:
            importlib.import_module(module.name)
    found, left = [], [BursarError]
    while left:
        error = left.pop()
        found.append(error)
        left += error.__subclasses__()
    return found


def test_the_statuses_drawn_in_the_tree_are_those_of_the_classes():
    assert errors.__doc__ is not None
    drawn = re.findall(r"[├└]── (\w+) (\d{3})\b", errors.__doc__)
    assert len(drawn) >= 9
    for name, status in drawn:
        found = getattr(errors, name, None)
        assert found is None or found.status == int(status), name


def test_every_error_of_the_product_has_a_status_of_the_wire_and_a_type():
    found = [error for error in all_errors() if error.__module__.startswith("bursar.")]
    assert len(found) > 30
    for error in found:
        assert error.status in {400, 401, 402, 403, 404, 405, 408, 409, 413, 422, 429, 500, 502, 503, 504}, error
        assert re.fullmatch(r"[a-z_]+", error.error_type), error


def test_every_error_of_a_room_says_in_a_docstring_of_its_own_or_its_parents_what_it_means():
    of_rooms = [error for error in all_errors() if re.match(r"bursar\.(?!kernel)", error.__module__)]
    bare = {error.__name__ for error in of_rooms if inspect.getdoc(error) in (None, inspect.getdoc(BursarError))}
    assert bare == set()


def test_an_error_carries_its_sentence_its_remedy_and_only_the_ids_that_are_known():
    error = errors.NotFound("There is no such key.", remedy="Look at the list.", key="key_1", owner=None)
    assert (str(error), error.sentence, error.remedy) == ("There is no such key.",) * 2 + ("Look at the list.",)
    assert error.ids == {"key": "key_1"}
    assert error.name == "NotFound"


def test_a_wrong_field_names_itself():
    error = errors.InvalidField("slug", "That word is reserved.")
    assert (error.field, error.ids, error.status) == ("slug", {"field": "slug"}, 400)


@pytest.mark.parametrize("error", [errors.Unavailable, errors.TooMany])
def test_what_passes_by_itself_says_how_long_to_wait(error):
    assert error("Wait.", retry_after_seconds=7).retry_after_seconds == 7
