"""A kernel that cannot run on this card or toolchain warns once; the process then goes on with plain torch."""

import warnings
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# How Triton says, outside its own exception classes, that compiling or launching is impossible here.
SIGNS = ("PassManager::run failed", "Failed to find C compiler", "Triton Error [CUDA]: no kernel image")


class Health:
    """Whether this process has seen a kernel that cannot run."""

    broken = False


def attempt(kernel: Callable[[], T], plain: Callable[[], T]) -> T:
    """The kernel's result; the plain form's once a kernel could not be compiled or launched in this process."""
    if not Health.broken:
        try:
            return kernel()
        except Exception as error:
            if not cannot_run(error):
                raise
            Health.broken = True
            reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
            warnings.warn(f"reqlake's kernels cannot run here ({reason}); going on without", stacklevel=2)
    return plain()


def cannot_run(error: Exception) -> bool:
    """Whether an error is of the card or the toolchain, not of the data; the interpreter's are the kernel's own."""
    if type(error).__name__ == "InterpreterError":
        return False
    return (
        isinstance(error, ImportError)
        or type(error).__module__.startswith(("triton.compiler", "triton.runtime"))
        or any(sign in str(error) for sign in SIGNS)
    )
