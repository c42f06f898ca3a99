"""When messages came, told by their serials."""

from __future__ import annotations

from random import Random

import pytest

from forkbroker.routing.ages import MOST, Ages


def test_a_message_came_after_the_last_note_below_it() -> None:
    """The next serial was 10 at 100 s, and 20 at 101 s."""
    ages = Ages()
    ages.note(10, 100.0)
    ages.note(20, 101.0)

    assert ages.find(10, 105.0) == (5.0, False)
    assert ages.find(19, 105.0) == (5.0, False)
    assert ages.find(20, 105.0) == (4.0, False)


def test_while_nothing_comes_the_last_note_grows_younger() -> None:
    """What comes after a pause is not as old as the pause."""
    ages = Ages()
    for second in range(100):
        ages.note(10, float(second))

    assert ages.find(10, 100.0) == (1.0, False)


def test_what_was_there_before_the_first_note_is_older_than_that() -> None:
    """So it is said."""
    ages = Ages()
    assert ages.find(1, 5.0) == (0.0, True)
    ages.note(10, 100.0)

    assert ages.find(9, 105.0) == (5.0, True)


@pytest.mark.parametrize("seed", range(5))
def test_notes_are_bounded_and_true_enough(seed: int) -> None:
    """The error is a small part of the age."""
    random = Random(seed)
    ages, serial, came = Ages(), 1, dict[int, float]()
    seconds = random.randint(MOST, 5 * MOST)
    for second in range(seconds):
        ages.note(serial, float(second))
        for _ in range(random.randint(0, 3)):
            came[serial] = float(second)
            serial += 1
    now = float(seconds)

    assert len(ages._serials) <= MOST
    assert ages._serials == sorted(set(ages._serials))
    for one in list(came)[:: max(1, len(came) // 50)]:
        age, is_older = ages.find(one, now)
        assert not is_older
        assert now - came[one] <= age <= (now - came[one]) * 1.1 + 2
