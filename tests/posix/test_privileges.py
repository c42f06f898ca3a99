"""Users and limits, in processes that may lose them."""

from __future__ import annotations

import os
import pwd
import resource
import signal

import pytest

from forkbroker.errors import Exit, StartError
from forkbroker.posix.exits import describe
from forkbroker.posix.privileges import (
    SystemUser,
    apply_limits,
    drop,
    find_group,
    find_user,
    raise_file_limit,
    resolve,
)

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root")


def test_nobody_asked_means_nobody_changes() -> None:
    """No user and no group."""
    assert resolve(None, None) is None


def test_a_user_is_found_by_name_and_by_number() -> None:
    """This process's own, whoever it is."""
    me = pwd.getpwuid(os.getuid())

    by_name, by_number = resolve(me.pw_name, None), resolve(str(me.pw_uid), None)

    assert by_name == by_number
    assert by_name is not None
    assert (me.pw_name, me.pw_uid, me.pw_gid) == (by_name.name, by_name.uid, by_name.gid)
    assert me.pw_gid in by_name.groups


def test_a_group_can_be_chosen_alone() -> None:
    """The user stays."""
    chosen = resolve(None, str(os.getgid()))

    assert chosen == SystemUser(str(os.getuid()), os.getuid(), os.getgid(), (os.getgid(),))


@pytest.mark.parametrize(("user", "group"), [("no-such-user", None), (None, "no-such-group"), ("4000000000", None)])
def test_unknown_names_are_start_errors_with_a_status_of_their_own(user, group) -> None:
    """The message says which option."""
    with pytest.raises(StartError, match=r"no (user|group) .* give another --(user|group)") as caught:
        resolve(user, group)

    assert caught.value.status == Exit.NOUSER


@needs_root
def test_dropped_privileges_are_gone_for_good(in_child) -> None:
    """Real, effective and saved; groups as well; the way back is shut."""

    def try_back() -> int:
        drop(SystemUser("somebody", 12_345, 23_456, (23_456, 34_567)))
        if os.getresuid() != (12_345,) * 3 or os.getresgid() != (23_456,) * 3:
            return 1
        if set(os.getgroups()) != {23_456, 34_567}:
            return 2
        try:
            os.seteuid(0)
        except PermissionError:
            return 7
        return 3

    assert describe(in_child(try_back)) == "exit status 7"


@needs_root
def test_who_is_not_root_can_become_nobody_else(in_child) -> None:
    """The message says how it would work; becoming oneself is no change."""

    def ask() -> int:
        os.setresuid(12_345, 12_345, 12_345)
        drop(SystemUser("myself", 12_345, 0, (0,)))
        try:
            resolve("0", None)
        except StartError as error:
            return error.status
        return 0

    assert describe(in_child(ask)) == f"exit status {Exit.NOPERM}"


@needs_root
def test_root_can_stay_root_in_another_group(in_child) -> None:
    """Then there is a way back, as nobody wanted to leave."""

    def change() -> int:
        drop(SystemUser("root", 0, 23_456, (23_456,)))
        return 7 if os.getgid() == 23_456 else 1

    assert describe(in_child(change)) == "exit status 7"


def test_as_many_files_as_permitted(in_child) -> None:
    """The soft limit becomes the hard one."""

    def use_all() -> int:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 128))
        return 7 if raise_file_limit() == 128 == resource.getrlimit(resource.RLIMIT_NOFILE)[0] else 1

    assert describe(in_child(use_all)) == "exit status 7"


def test_no_limit_is_no_change(in_child) -> None:
    """None leaves all three as they are."""
    kinds = (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_NOFILE)
    before = [resource.getrlimit(kind) for kind in kinds]

    def apply() -> int:
        apply_limits(memory_bytes=None, cpu_s=None, files=None)
        return 7 if [resource.getrlimit(kind) for kind in kinds] == before else 1

    assert describe(in_child(apply)) == "exit status 7"


def test_a_child_that_eats_memory_meets_an_error(in_child) -> None:
    """It can end in order; the others notice nothing."""

    def eat() -> int:
        apply_limits(memory_bytes=1 << 30, cpu_s=None, files=None)
        try:
            bytearray(2 << 30)
        except MemoryError:
            return 7
        return 1

    assert describe(in_child(eat)) == "exit status 7"


def test_a_child_that_eats_time_is_ended_by_the_system(in_child) -> None:
    """One second of work."""

    def work() -> int:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        apply_limits(memory_bytes=None, cpu_s=1, files=None)
        while True:
            pass

    assert os.WTERMSIG(in_child(work)) == signal.SIGXCPU


def test_a_child_cannot_open_more_than_its_files(in_child) -> None:
    """And a limit that is lower already is not raised."""

    def open_many() -> int:
        apply_limits(memory_bytes=None, cpu_s=None, files=20)
        apply_limits(memory_bytes=None, cpu_s=None, files=40)
        try:
            for _ in range(30):
                os.open(os.devnull, os.O_RDONLY)
        except OSError:
            return 7
        return 1

    assert describe(in_child(open_many)) == "exit status 7"


@pytest.mark.parametrize("name", ["no-such-name", "99999999", "9" * 255])
def test_a_user_or_group_that_there_is_not_is_told_with_its_option(name: str) -> None:
    """By name, by number, and by a number that none can have."""
    with pytest.raises(StartError, match=f"^no user {name} on this system; create it, or give another --user$"):
        find_user(name, "--user")
    with pytest.raises(StartError, match=f"^no group {name} on this system; create it, or give another --group$"):
        find_group(name, "--group")
