"""The processes of a run: one, or as many as `torchrun` started. Sums over ranks make them equal one big batch.

Gradients are summed, and losses divided by candidates counted over all ranks, so the number of ranks does not change
what is learned (DDP's mean over ranks would weight a candidate of a small rank more).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed


@dataclass(frozen=True)
class Ranks:
    """This process among its peers."""

    rank: int
    world_size: int

    @classmethod
    def join(cls, device: str) -> Ranks:
        """By torchrun's environment (RANK, WORLD_SIZE); a process of its own without it."""
        world_size = int(os.environ.get("WORLD_SIZE", "1"))
        if world_size > 1 and not torch.distributed.is_initialized():
            torch.distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
        return cls(int(os.environ.get("RANK", "0")), world_size)

    @property
    def is_first(self) -> bool:
        """Whether this process writes and shows."""
        return self.rank == 0

    def sum(self, x: torch.Tensor) -> torch.Tensor:
        """The sum over ranks, without gradient."""
        if self.world_size == 1:
            return x
        total = x.detach().clone()
        torch.distributed.all_reduce(total)
        return total

    def any(self, flag: bool) -> bool:
        """Whether the flag is up on any rank."""
        return flag if self.world_size == 1 else bool(self.sum(torch.tensor(float(flag))))

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Sum the gradients over ranks, in one message; one that a rank has not is zero."""
        if self.world_size == 1:
            return
        used = list(parameters)
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in used])
        torch.distributed.all_reduce(flat)
        for p, grad in zip(used, torch.split(flat, [p.numel() for p in used]), strict=True):
            p.grad = grad.view_as(p)

    def wait(self) -> None:
        """Until every rank is here."""
        if self.world_size > 1:
            torch.distributed.barrier()
