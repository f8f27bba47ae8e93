"""Threads are as many as cores that no other program uses; OMP_NUM_THREADS stands."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import torch

from scorefield import cores
from scorefield.cores import Cores


class Machine:
    """Cores, of which others use some, told by seconds of work as a system tells them."""

    def __init__(self, number: int) -> None:
        self.number, self.now, self.others, self.own = number, 100.0, 7.0, 3.0

    def used(self) -> tuple[float, float, int]:
        return self.others + self.own, self.own, self.number

    def passes(self, seconds: float, others: float) -> None:
        """Let time pass in which others use so many cores, and this program the rest."""
        self.now, self.others = self.now + seconds, self.others + seconds * others
        self.own += seconds * (self.number - others)


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    cores._limit(before)


def beside(number: int, environment: dict[str, str] | None = None) -> tuple[Machine, Cores]:
    machine = Machine(number)
    torch.set_num_threads(number)
    return machine, Cores(lambda: machine.now, machine.used, environment or {})


def threads_after(machine: Machine, of: Cores, *others: float) -> list[int]:
    found = []
    for used in others:
        machine.passes(1.5, used)
        of.adapt()
        found.append(torch.get_num_threads())
    return found


def test_threads_are_the_free_cores_at_once_and_then_by_two_windows_that_agree() -> None:
    machine, of = beside(2)
    assert threads_after(machine, of, 0.0, 0.3, 1.0, 0.0, 1.0, 0.8, 1.0, 0.0, 0.1) == [2, 2, 2, 2, 2, 1, 1, 1, 2]
    assert threads_after(machine, of, 0.6, 0.6, 0.8, 0.8, 0.6, 0.6, 0.3, 0.3) == [2, 2, 2, 1, 1, 1, 1, 2]  # no to and fro
    machine, of = beside(2)
    assert threads_after(machine, of, 1.0) == [1]  # a busy machine at the beginning
    machine, of = beside(16)
    assert threads_after(machine, of, 1.0, 9.3, 9.3, 16.0, 16.0) == [15, 15, 7, 7, 1]


def test_what_changes_is_said_and_nothing_is_done_within_a_second() -> None:
    machine, of = beside(4)
    machine.passes(0.9, 4.0)
    assert of.adapt() is None and torch.get_num_threads() == 4
    machine.passes(0.6, 4.0)
    assert of.adapt() == "1 of 4 threads: other programs use 4.0 of 4 cores"


def test_a_number_that_was_asked_for_stands() -> None:
    machine, of = beside(2, {"OMP_NUM_THREADS": "2"})
    assert threads_after(machine, of, 2.0, 2.0, 2.0) == [2, 2, 2]


def test_where_the_system_does_not_say_the_number_stays() -> None:
    def refused() -> tuple[float, float, int]:
        raise PermissionError("/proc/stat")

    of = Cores(used=refused, environment={})
    assert of.fixed and of.adapt() is None


def test_the_work_of_this_program_is_part_of_the_work_of_all() -> None:
    before, end = cores._used(), time.process_time() + 0.3
    while time.process_time() < end:
        pass
    after = cores._used()
    assert after[0] - before[0] >= after[1] - before[1] - 0.03 * after[2]  # the system counts in hundredths, each core alone


def test_the_libraries_behind_numpy_follow() -> None:
    from threadpoolctl import threadpool_info

    cores._limit(1)
    assert {one["num_threads"] for one in threadpool_info()} == {1}
