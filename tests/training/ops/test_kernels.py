"""The Triton kernels without a card: `interpreted.py` in a process where triton is imported as an interpreter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from crossing_cases import RAGGED, error, oracle, run

from training.ops import crossing_attention, fallback, paths

pytest.importorskip("triton", reason="kernels need triton")

HERE = Path(__file__).parent


def test_kernels_under_the_interpreter():
    done = subprocess.run(
        [sys.executable, "-m", "pytest", HERE / "interpreted.py", "--noconftest", "-p", "no:cacheprovider"],
        env={**os.environ, "TRITON_INTERPRET": "1", "REQLAKE_KERNELS": "triton"},
        cwd=HERE.parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


def test_triton_without_card_or_interpreter_is_refused(monkeypatch):
    monkeypatch.setenv("REQLAKE_KERNELS", "triton")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match="needs a CUDA device"):
        paths.choose(torch.zeros(1))


def test_a_kernel_that_cannot_launch_warns_once_and_plain_torch_goes_on(monkeypatch):
    """No card here: triton's compiled kernels cannot launch on host tensors, and say so in other words each release."""
    from triton.runtime.errors import OutOfResources

    from training.ops.kernels import crossing_launch

    def no_room(*_args, **_kwargs):
        raise OutOfResources(300_000, 101_376, "shared memory")

    monkeypatch.setattr(fallback.Health, "broken", False)
    monkeypatch.setattr(paths, "choose", lambda _: "triton")
    monkeypatch.setattr(crossing_launch, "forward", no_room)
    *tensors, grad_out = RAGGED.tensors(torch.float64)
    want, want_grads = oracle(RAGGED, tensors, grad_out)
    fn = lambda *xs: crossing_attention(*xs, RAGGED.plan())  # noqa: E731
    with pytest.warns(UserWarning, match="kernels cannot run here .*shared memory"):
        got, grads = run(fn, tensors, grad_out)
    run(fn, tensors, grad_out)  # a second warning would be an error
    # the log-sum-exp is kept in fp32 between forward and backward
    assert all(error(x, w) < 1e-6 for x, w in zip([*got, *grads], [*want, *want_grads], strict=True))


def test_errors_of_the_data_are_not_hidden(monkeypatch):
    monkeypatch.setattr(fallback.Health, "broken", False)

    def wrong():
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        fallback.attempt(wrong, lambda: 0)
    assert not fallback.Health.broken
