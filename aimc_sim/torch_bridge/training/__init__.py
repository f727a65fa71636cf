"""Layers that train for the chip: their product under noise, its gradients, ranges and weights that are clipped."""
