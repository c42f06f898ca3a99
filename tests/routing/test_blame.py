"""Suspicion, conviction, alibi."""

from __future__ import annotations

from forkbroker.routing.offers.blame import Blame, Crash, count_convictions, is_suspect
from forkbroker.routing.queues.runs import Run, make_run
from forkbroker.wire.details import Details

from .simulation import make_send
from .twins import carry


def make(count: int = 1, crashes: int = 0) -> Run:
    return make_run(make_send(b"/queue/a", [b"x"] * count), 1, Details(crashes=crashes))


def crash(blame: Blame, *held: Run, is_withheld: bool = False) -> list[bool]:
    """A process ends that held these: which of them are convicted."""
    noted = blame.note_crash("by SIGKILL", held, is_withheld=is_withheld)
    return [blame.charge(run, noted) for run in held]


def test_who_was_never_held_by_a_process_that_crashed_is_no_suspect() -> None:
    """The grade 0."""
    assert not is_suspect(Details())
    assert count_convictions(Details()) == 0


def test_a_crash_in_company_makes_suspects_and_convicts_none() -> None:
    """However often, and whether they came in one run or in several."""
    blame, two, one = Blame(), make(2), make()

    for _ in range(5):
        assert crash(blame, two, one) == [False, False]
        assert crash(blame, two) == [False]
    assert [is_suspect(run.details) for run in (two, one)] == [True, True]
    assert [count_convictions(run.details) for run in (two, one)] == [0, 0]


def test_a_crash_alone_convicts() -> None:
    """Each time; suspect or not."""
    blame, run = Blame(), make()

    for number in range(1, 4):
        assert crash(blame, run) == [True]
        assert count_convictions(run.details) == number


def test_who_has_lost_messages_by_a_lease_does_not_hold_one_alone() -> None:
    """It may still work on what is another one's by now."""
    blame, run = Blame(), make()

    assert crash(blame, run, is_withheld=True) == [False]
    assert is_suspect(run.details)


def test_an_unexplained_crash_since_the_last_one_is_an_alibi() -> None:
    """Once: the next crash convicts, if there is none again. Nothing held, several, or one that was no suspect."""
    blame, run = Blame(), make()
    others: list[list[Run]] = [[], [make(2)], [make(), make()], [make()]]
    crash(blame, run)

    for other in others:
        crash(blame, *other)
        before = count_convictions(run.details)
        assert crash(blame, run) == [False]
        assert crash(blame, run) == [True]
        assert count_convictions(run.details) == before + 1


def test_the_crash_with_another_suspect_is_no_alibi() -> None:
    """Two poisonous messages must not clear each other."""
    blame, one, two = Blame(), make(), make()
    crash(blame, one, two)

    for _ in range(3):
        assert crash(blame, one) == [True]
        assert crash(blame, two) == [True]


def test_the_crash_that_makes_suspects_clears_none_of_them() -> None:
    """The one of them that is to blame is convicted by its next one."""
    blame, one, two = Blame(), make(), make()
    crash(blame, one, two)

    assert crash(blame, one) == [True]


def test_the_parts_of_a_run_have_its_alibis() -> None:
    """A run is divided when it is offered."""
    blame, runs = Blame(), make(3)
    crash(blame, runs)
    front = runs.split(1)

    assert crash(blame, front) == [True]


def test_a_grade_from_the_store_counts() -> None:
    """The broker has been started anew."""
    run = make(crashes=3)

    assert count_convictions(run.details) == 2
    assert crash(Blame(), run) == [True]
    assert count_convictions(run.details) == 3


def test_a_crash_says_how_it_came_about() -> None:
    """For the log."""
    assert Blame().note_crash("by SIGSEGV", [make()], is_withheld=False) == Crash("by SIGSEGV", is_alone=True)
    assert Blame().note_crash("by SIGSEGV", [], is_withheld=False) == Crash("by SIGSEGV", is_alone=False)


def test_an_unexplained_crash_is_an_alibi_in_another_router() -> None:
    """The run knows how many there had been."""
    blame, run = Blame(), make()
    assert crash(blame, run) == [True]
    crash(blame)

    assert crash(carry(blame, Blame()), run) == [False]
