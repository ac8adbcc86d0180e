"""Groups of requests of like history length, with the index tables that pad them into dense blocks."""

from __future__ import annotations

import dataclasses

import torch

# Attention over a padded history costs its square: groups that keep three fifths of the block full halve the
# context's time on ragged lengths (64 requests, 1 to 128 tokens, 2 cores); shorter than 16 is all overhead.
FILL = 0.6
SHORT = 16
# Tokens of a block: bounds the padding of a large batch, and keeps a block's keys near the cache.
BLOCK_TOKENS = 1 << 15


@dataclasses.dataclass(frozen=True, eq=False)
class PaddedBlock:
    """Requests padded to L history tokens and N candidates."""

    R: int
    L: int
    N: int
    lengths: torch.Tensor
    """[R] int64: true history lengths."""
    tokens: torch.Tensor
    """Rows of T that this block holds, and `token_slots`, their rows in the padded [R * L]."""
    token_slots: torch.Tensor
    candidates: torch.Tensor
    """Rows of C that this block holds, and `candidate_slots`, their rows in the padded [R * N]."""
    candidate_slots: torch.Tensor


def padded_blocks(
    context_offsets: torch.Tensor, candidate_offsets: torch.Tensor, device: torch.device
) -> list[PaddedBlock]:
    """Every request once, longest history first."""
    lengths, counts = context_offsets.diff(), candidate_offsets.diff()
    order = torch.argsort(lengths, descending=True, stable=True)
    out, first = [], 0
    sorted_lengths = lengths[order].tolist()
    while first < len(order):
        longest = sorted_lengths[first]
        floor = longest * FILL if longest > SHORT else min(longest, 1)
        room = max(1, BLOCK_TOKENS // max(longest, 1))
        last = first + 1
        while last < len(order) and last - first < room and sorted_lengths[last] >= floor:
            last += 1
        members = order[first:last]
        tokens, token_slots = rows_and_slots(context_offsets[members], lengths[members], longest)
        most = int(counts[members].max())
        candidates, candidate_slots = rows_and_slots(candidate_offsets[members], counts[members], most)
        tables = (lengths[members], tokens, token_slots, candidates, candidate_slots)
        out.append(PaddedBlock(len(members), longest, most, *(x.to(device) for x in tables)))
        first = last
    return out


def rows_and_slots(
    starts: torch.Tensor, lengths: torch.Tensor, width: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Packed rows of the given segments, and their places in a block with `width` rows a segment."""
    segment = torch.repeat_interleave(lengths)
    within = torch.arange(len(segment)) - (lengths.cumsum(0) - lengths)[segment]
    return starts[segment] + within, segment * width + within
