"""Benchmarks: each states its question, its rival, its goal and its unit. ``python -m benchmarks`` runs them all."""
