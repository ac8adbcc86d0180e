"""Engine and batch scoring."""
