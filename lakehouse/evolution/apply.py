"""An evolution carried out: schema and spec in one commit, on the very state that was planned for."""

from __future__ import annotations

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table.update import (
    AddSchemaUpdate,
    AssertCurrentSchemaId,
    AssertLastAssignedFieldId,
    AssertRefSnapshotId,
    AssertTableUUID,
    RemovePropertiesUpdate,
    SetCurrentSchemaUpdate,
    SetPropertiesUpdate,
    TableRequirement,
    TableUpdate,
)

from lakehouse.audit_branches import living_writers
from lakehouse.catalog import catalog_errors
from lakehouse.errors import EvolutionError
from lakehouse.evolution.plan import Plan
from lakehouse.evolution.restate import restated
from lakehouse.lease import maintenance_lease
from lakehouse.pending import rename_waiting
from lakehouse.settings import Settings


def apply(catalog: Catalog, plan: Plan, settings: Settings) -> int:
    """Make a table follow its spec, at once or not at all; then let labels that wait go by their names of now.

    How many of these were renamed. A plan without steps leaves the table as it is: after a death between the two, this
    again does the second. Raises EvolutionError where anything is refused, while an ingest is at work, and where the
    table has changed since it was planned; LeaseError beside a maintenance job.
    """
    name = ".".join(plan.table.name())
    if plan.refusals:
        lines = "\n".join(f"  {r.place}: {r.why}" for r in plan.refusals)
        raise EvolutionError(f"{name} cannot follow this spec, nothing was changed:\n{lines}")
    with maintenance_lease(catalog, plan.spec, settings, "spec apply"):
        if writers := living_writers(plan.table.refresh()):
            raise EvolutionError(
                f"an ingest into {name} is at work ({', '.join(writers)}): nothing was changed, run this again when it "
                f"has ended"
            )
        if plan.steps:
            commit(plan, settings)
        return rename_waiting(catalog, plan.spec, settings)


def commit(plan: Plan, settings: Settings) -> None:
    """The one commit. Raises EvolutionError where the table is not as it was planned for."""
    table, metadata = plan.table, plan.table.metadata
    updates: tuple[TableUpdate, ...] = ()
    if plan.changes_schema:
        if all(plan.schema.schema_id != s.schema_id for s in metadata.schemas):
            updates += (AddSchemaUpdate(schema_=plan.schema),)
        updates += (SetCurrentSchemaUpdate(schema_id=plan.schema.schema_id),)
        updates += restated(table, plan.schema.schema_id)
    updates += (SetPropertiesUpdate(updates=dict(plan.properties)),)
    if plan.removed:
        updates += (RemovePropertiesUpdate(removals=list(plan.removed)),)
    requirements: tuple[TableRequirement, ...] = (
        AssertTableUUID(uuid=metadata.table_uuid),
        AssertCurrentSchemaId(current_schema_id=metadata.current_schema_id),
        AssertLastAssignedFieldId(last_assigned_field_id=metadata.last_column_id),
        AssertRefSnapshotId(ref="main", snapshot_id=plan.snapshot_id),
    )
    try:
        with catalog_errors(settings):
            table.catalog.commit_table(table, requirements, updates)
    except CommitFailedException as error:
        raise EvolutionError(
            f"{'.'.join(table.name())} was changed while this was planned, nothing was done: run it again ({error})"
        ) from error
    table.refresh()
