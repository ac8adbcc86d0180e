"""`reqlake spec`: check a spec, draft one from a raw log, show the one that a table carries, change it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

from reqlake.cli.terminal import err, out, working

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

    from lakehouse.settings import Settings
    from lakehouse.spec import DatasetSpec


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


def plan(file: Positional[Path], /) -> int:
    """Show what a changed spec means for its table: columns added, renamed, widened, dropped; what is refused, and why.

    Exit code 1 where something is refused. A rename is told by `renamed_from` in the spec. Nothing is changed.

    Args:
        file: The changed spec, a YAML file.
    """
    from lakehouse.evolution import plan as plan_for
    from reqlake.show.evolution import show_plan

    spec, table, _, _ = _spec_and_table(file)
    found = plan_for(table, spec)
    show_plan(out(), found)
    return 1 if found.refusals else 0


def apply(file: Positional[Path], /, *, views: bool = False) -> None:
    """Change a table as a changed spec says, in one commit. Old snapshots and old raw files stay readable.

    Refused as a whole where any of it cannot be made safely, and while an ingest or a maintenance job is at work.

    Args:
        file: The changed spec, a YAML file.
        views: Then make the spec's views in Trino anew, as `reqlake views apply` does; refused before anything is
            changed where one of their names is taken by what reqlake did not make.
    """
    from lakehouse.applied_views import refuse_foreign
    from lakehouse.evolution import apply as change
    from lakehouse.evolution import plan as plan_for
    from lakehouse.sql import view_server
    from reqlake.show.evolution import show_applied, stale_views
    from reqlake.show.views import show_changes

    spec, table, catalog, settings = _spec_and_table(file)
    if views:
        refuse_foreign(view_server.diff(settings, spec))
    found = plan_for(table, spec)
    renamed = change(catalog, found, settings)
    show_applied(out(), found, [] if views else stale_views(settings, found), renamed=renamed)
    if views:
        show_changes(out(), view_server.apply(settings, spec), done=True)


def _spec_and_table(file: Path) -> tuple[DatasetSpec, Table, Catalog, Settings]:
    from lakehouse.catalog import open_catalog
    from lakehouse.schema import open_request_table
    from lakehouse.settings import load_settings
    from lakehouse.spec import load_spec

    settings, spec = load_settings(), load_spec(file)
    catalog = open_catalog(settings)
    return spec, open_request_table(catalog, spec, settings), catalog, settings


def show(dataset: Positional[str], /) -> None:
    """Print a spec as YAML: that of a file, or the one that a request table carries.

    Args:
        dataset: A spec file, a table's full name or a dataset's name.
    """
    from lakehouse.settings import load_settings
    from lakehouse.spec import dump_yaml
    from reqlake.cli.dataset import spec_of

    print(dump_yaml(spec_of(dataset, load_settings())), end="")
