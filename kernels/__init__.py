"""Array-to-array kernels: no configuration, no files, no hidden state."""
