"""Tests of tasks need lm-evaluation-harness: without it they are not collected."""

from __future__ import annotations

import importlib.util

collect_ignore = [] if importlib.util.find_spec("lm_eval") else ["test_harness.py", "test_afm_tasks.py"]
