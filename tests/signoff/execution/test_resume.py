"""A sign-off that is killed and run again ends with the bytes of one that never was (20 times in `benchmarks`)."""

from __future__ import annotations

from pathlib import Path

from benchmarks.signoff_resume import kill_again_and_again


def test_a_sign_off_that_was_killed_ends_with_the_same_bytes(tiny_weights: Path, tmp_path: Path) -> None:
    tally = kill_again_and_again(tiny_weights, tmp_path, 2)
    assert tally.kills == 2
    assert (tally.different, tally.lost) == (0, 0)
    assert tally.studies >= 1
