"""`reqlake evaluate`."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional

from reqlake.cli.terminal import err, out, working


def evaluate(
    run: Positional[Path],
    /,
    *,
    item_mean: str | None = None,
    user_bias: str | None = None,
    draws: int = 1000,
    plot: Path | None = None,
) -> None:
    """Test a finished run on its held-out requests, beside plain baselines, with bootstrap intervals over users.

    Args:
        run: The run's folder.
        item_mean: Column with an item's mean label as of the request, for a baseline.
        user_bias: Column with the user's distance from it so far, for a baseline of both.
        draws: Bootstrap draws.
        plot: Where to write the plot; else auc.png in the run's folder.
    """
    from lakehouse.settings import load_settings
    from training.evaluate import evaluate as test

    with working("evaluating"):
        found = test(run, load_settings(), item_mean=item_mean, user_bias=user_bias, draws=draws, plot=plot)
    out().print(found.table())
    err().print(f"wrote {run / 'evaluation.json'} and {plot or run / 'auc.png'}", soft_wrap=True)
