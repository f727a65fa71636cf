"""Without lm-evaluation-harness its benchmark is not tested."""

from __future__ import annotations

import importlib.util

collect_ignore = [] if importlib.util.find_spec("lm_eval") else ["test_harness_tasks.py"]
