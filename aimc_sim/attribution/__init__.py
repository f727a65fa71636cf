"""Explain: what each effect of a hardware costs a model, one at a time, in turn, and what all but one would cost."""
