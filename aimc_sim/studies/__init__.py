"""The machinery of long studies: where results are kept, who computes them, and which code that was."""
