"""Runs a plan: scores of a model on one chip after the other, in processes and clusters, kept in a journal."""
