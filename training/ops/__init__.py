"""Operations on packed, ragged requests: candidates attend to a history that is read once.

Imports torch alone; triton is imported on the first call that needs it, so CPUs and macOS work without it.
`naive.py` is the oracle, `padded.py` the path without kernels, `docs/kernels.md` the idea and the numbers.
"""

from training.ops.attention import context_attention, crossing_attention, paged_crossing_attention
from training.ops.linear import linear_gelu
from training.ops.plan import CrossingPlan
from training.ops.segments import segment_expand, segment_sum

__all__ = [
    "CrossingPlan",
    "context_attention",
    "crossing_attention",
    "linear_gelu",
    "paged_crossing_attention",
    "segment_expand",
    "segment_sum",
]
