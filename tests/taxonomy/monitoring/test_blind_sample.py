"""The blind sample is the same in each process, and has the share that was asked for."""

from __future__ import annotations

from taxonomist.taxonomy.monitoring import is_blind


def drawn(share: float) -> set[int]:
    return {task for task in range(20_000) if is_blind("4", str(task), share)}


def test_the_share_of_the_tasks_is_drawn() -> None:
    assert abs(len(drawn(0.05)) - 1_000) < 5 * (20_000 * 0.05 * 0.95) ** 0.5
    assert drawn(0.0) == set()
    assert len(drawn(1.0)) == 20_000


def test_a_larger_share_contains_a_smaller_one() -> None:
    assert drawn(0.05) < drawn(0.1)


def test_the_draw_is_the_same_in_each_release() -> None:
    assert [task for task in range(100) if is_blind("4", str(task), 0.05)] == [22, 31, 37, 77, 82, 99]
