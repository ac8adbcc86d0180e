"""Groups of requests of like history length, and the tables that pad packed rows into a block each."""

from __future__ import annotations

import dataclasses

import torch

# Attention over a padded history costs its square: groups that keep three fifths of the block full halve the
# context's time on ragged lengths (64 requests, 1 to 128 tokens, 2 cores); shorter than 16 is all overhead.
FILL = 0.6
SHORT = 16
# Rows of a block, padding included: bounds what one long request among short ones can cost.
BLOCK_ROWS = 1 << 15


@dataclasses.dataclass(frozen=True)
class Block:
    """R requests padded to L history tokens and N candidates; `lengths` [R] are the true history lengths."""

    R: int
    L: int
    N: int
    lengths: torch.Tensor


@dataclasses.dataclass(frozen=True)
class Padding:
    """Where each packed row goes in the concatenation of all padded blocks."""

    sizes: list[int]
    """Rows of each block, padding included."""
    slots: torch.Tensor
    """[rows] int64: the padded place of each packed row."""
    identity: bool
    """Nothing is padded or moved: the packed rows are the blocks."""

    def pad(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Packed rows to one tensor a block; zeros in the padding, as 0 times a stray NaN is NaN."""
        if not self.identity:
            x = x.new_zeros(sum(self.sizes), *x.shape[1:]).index_copy(0, self.slots, x)
        return list(torch.split_with_sizes(x, self.sizes))

    def unpad(self, blocks: list[torch.Tensor]) -> torch.Tensor:
        """The blocks' real rows in packed order."""
        x = torch.cat(blocks)
        return x if self.identity else x.index_select(0, self.slots)


@dataclasses.dataclass(frozen=True)
class PaddedBlocks:
    """A batch as dense blocks, longest histories first."""

    blocks: list[Block]
    tokens: Padding
    candidates: Padding

    @classmethod
    def build(
        cls, context_offsets: torch.Tensor, candidate_offsets: torch.Tensor, device: torch.device
    ) -> PaddedBlocks:
        """Every request once; none of the tables depends on data of the device."""
        lengths, counts = context_offsets.diff(), candidate_offsets.diff()
        order = torch.argsort(lengths, descending=True, stable=True)
        groups = group(lengths[order].tolist(), counts[order].tolist())
        blocks = [
            Block(
                len(range(*g)),
                int(lengths[order[g[0]]]),
                int(counts[order[slice(*g)]].max()),
                lengths[order[slice(*g)]],
            )
            for g in groups
        ]
        blocks = [dataclasses.replace(b, lengths=b.lengths.to(device)) for b in blocks]
        per_block = torch.tensor([b.R for b in blocks], dtype=torch.int64)
        return cls(
            blocks=blocks,
            tokens=padding(lengths, order, per_block, [b.L for b in blocks], device),
            candidates=padding(counts, order, per_block, [b.N for b in blocks], device),
        )


def group(lengths: list[int], counts: list[int]) -> list[tuple[int, int]]:
    """Runs of requests sorted by falling length that share a block."""
    out, first, most = [], 0, 0
    for i, (length, count) in enumerate(zip(lengths, counts, strict=True)):
        longest = lengths[first]
        wider = max(most, count)
        too_short = length < (longest * FILL if longest > SHORT else min(longest, 1))
        if i > first and (too_short or (i + 1 - first) * max(longest, wider) > BLOCK_ROWS):
            out.append((first, i))
            first, wider = i, count
        most = wider
    return [*out, (first, len(lengths))] if lengths else out


def padding(
    lengths: torch.Tensor,
    order: torch.Tensor,
    per_block: torch.Tensor,
    widths: list[int],
    device: torch.device,
) -> Padding:
    """Slots of segments of the given lengths, laid out in `order`, each as wide as its block."""
    width_R = torch.repeat_interleave(torch.tensor(widths, dtype=torch.int64), per_block)
    start_R = torch.empty_like(lengths)
    start_R[order] = width_R.cumsum(0) - width_R
    segment = torch.repeat_interleave(lengths)
    within = torch.arange(len(segment)) - (lengths.cumsum(0) - lengths)[segment]
    slots = start_R[segment] + within
    sizes = (per_block * torch.tensor(widths, dtype=torch.int64)).tolist()
    identity = sum(sizes) == len(slots) and bool((slots == torch.arange(len(slots))).all())
    return Padding(sizes, slots.to(device), identity)
