"""A table and its spec changed together: what a changed spec means, and the one commit that makes it so."""

from lakehouse.evolution.apply import apply, commit
from lakehouse.evolution.compare import Difference, Refusal, Step, compare
from lakehouse.evolution.plan import Plan, plan

__all__ = ["Difference", "Plan", "Refusal", "Step", "apply", "commit", "compare", "plan"]
