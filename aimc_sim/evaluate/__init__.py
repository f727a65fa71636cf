"""Scores of a language model: perplexity, divergence from the digital model, and agreement with it."""
