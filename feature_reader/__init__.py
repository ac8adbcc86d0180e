"""Snapshot to batches: plan, order, decode, collate."""
