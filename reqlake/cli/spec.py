"""`reqlake spec`: check a spec, draft one from a raw log, show the one that a table carries."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional

from reqlake.cli.terminal import err, out, working


def check(file: Positional[Path], /, *, raw: str | None = None, growth: float | None = None) -> int:
    """Validate a spec, show the table that follows from it, and advise on its files.

    Args:
        file: The spec, a YAML file.
        raw: A raw log (Parquet, ORC or Avro: file, folder or quoted pattern, on disk or s3://) that it has to fit.
        growth: Raw rows that are expected a day, to judge the partitioning by.
    """
    from lakehouse.spec import load_spec
    from lakehouse.spec.volume import volume_for
    from reqlake.show.spec import show_advice, show_fit, show_layout

    spec = load_spec(file)
    show_layout(out(), spec)
    fits = show_fit(out(), spec, raw) if raw else True
    if fits:
        show_advice(out(), spec, volume_for(spec, raw, growth))
    return 0 if fits else 1


def infer(raw: Positional[str], /, *, name: str | None = None, out_file: Path | None = None) -> None:
    """Draft a spec from a raw log's schema and a sample of its rows.

    Args:
        raw: The raw log: a Parquet or ORC file, a folder of them, or a quoted pattern, on disk or s3://.
        name: The dataset's name; else that of the folder.
        out_file: Where to write the draft; else it is printed.
    """
    from lakehouse.spec.infer import infer_spec

    with working(f"reading a sample of {raw}"):
        draft = infer_spec(raw, name)
    if out_file is None:
        print(draft.yaml, end="")
        return
    out_file.write_text(draft.yaml, encoding="utf-8")
    err().print(
        f"wrote {out_file}: read its comments, then run: reqlake spec check {out_file} --raw {raw}", soft_wrap=True
    )


def show(dataset: Positional[str], /) -> None:
    """Print a spec as YAML: that of a file, or the one that a request table carries.

    Args:
        dataset: A spec file, a table's full name or a dataset's name.
    """
    from lakehouse.settings import load_settings
    from lakehouse.spec import dump_yaml
    from reqlake.cli.dataset import spec_of

    print(dump_yaml(spec_of(dataset, load_settings())), end="")
