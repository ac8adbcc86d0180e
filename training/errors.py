"""Errors of training.

ReqlakeError
└── TrainingError        a run that cannot start or go on
    ├── DivergedError    loss or gradient is not finite; a checkpoint from before that step was kept
    ├── StoppedError     interrupted by the user; a checkpoint was kept
    └── CheckpointError  a checkpoint or an export that cannot be read
"""

from __future__ import annotations

from lakehouse.errors import ReqlakeError


class TrainingError(ReqlakeError):
    """A run that cannot start or go on."""


class DivergedError(TrainingError):
    """Loss or gradient is not finite; a checkpoint from before that step was kept."""


class StoppedError(TrainingError):
    """Interrupted by the user; a checkpoint was kept."""


class CheckpointError(TrainingError):
    """A checkpoint or an export that cannot be read."""
