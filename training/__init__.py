"""Kernels, models, losses, loops and checkpoints."""
