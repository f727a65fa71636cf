"""The nine tasks of Analog Foundation Models (Büchel et al., NeurIPS 2025, arXiv 2505.09663), scored by answer letters.

The paper gives shots and the way of scoring, not the prompts: these are ours, the same for every task with letters.
Rows are read from local files: ROWS/TASK/*.jsonl (`aimc_sim.evaluate.afm_tasks.rows`).
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
