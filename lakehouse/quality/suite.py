"""The suite, run by Great Expectations over a Spark frame of the request table.

One scan computes every rule's SQL into a narrow column of a cached frame; the expectations are native ones over that
and answer yes or no. Only rules that fail are looked at again, for a count and examples.
"""

from __future__ import annotations

import logging
import os
import time
import warnings
from dataclasses import dataclass
from typing import Any

from lakehouse.catalog import open_catalog
from lakehouse.errors import AuditError, NotInstalledError
from lakehouse.quality.rules import Rule, suite_rules
from lakehouse.schema import open_request_table
from lakehouse.settings import Settings
from lakehouse.spec import REQUEST_KEY, DatasetSpec

EXAMPLES = 5
KEY_COLUMNS = (*REQUEST_KEY, "request_ts")
KEYS = [
    Rule("keys_not_null", "user_id, request_id, request_ts and request_hash are never null", ""),
    Rule("keys_unique", "(user_id, request_id, request_hash) names one request", ""),
]


@dataclass(frozen=True)
class RuleResult:
    """One rule's outcome; `examples` are keys of requests that break it."""

    rule: str
    says: str
    passed: bool
    broken: int = 0
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class ValidationReport:
    """What the suite found in `rows` requests of a table."""

    table: str
    rows: int
    results: tuple[RuleResult, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether every rule held."""
        return all(result.passed for result in self.results)

    def require(self) -> None:
        """Raises AuditError that names each broken rule, with example keys."""
        broken = [r for r in self.results if not r.passed]
        if broken:
            lines = [f"  {r.rule}: {r.says}; {r.broken} do not, such as {', '.join(r.examples)}" for r in broken]
            raise AuditError(
                f"{self.table}: {len(broken)} of {len(self.results)} expectations failed on {self.rows} requests; "
                "nothing was published:\n" + "\n".join(lines)
            )


def validate(spark: Any, settings: Settings, spec: DatasetSpec) -> ValidationReport:
    """Run the suite on the published table. Raises TableMissingError, NotInstalledError."""
    catalog = open_catalog(settings)
    snapshot = open_request_table(catalog, spec, settings).current_snapshot()
    name = f"{settings.catalog.in_spark}.{spec.table('requests')}"
    if snapshot is None:
        return audit(spark.table(name), spec)
    return audit(spark.read.option("versionAsOf", str(snapshot.snapshot_id)).table(name), spec)


def audit(frame: Any, spec: DatasetSpec) -> ValidationReport:
    """Run the suite on a Spark frame of request rows. Raises NotInstalledError without Great Expectations."""
    started = time.perf_counter()
    rules = suite_rules(spec)
    flags = [f"cast(coalesce({r.broken}, false) AS int) AS {r.name}" for r in rules]
    narrow = frame.selectExpr(*REQUEST_KEY, "request_ts", *flags).persist()
    try:
        rows = narrow.count()
        results = _results(narrow, rules, spec)
    finally:
        narrow.unpersist()
    return ValidationReport(spec.table("requests"), rows, results, time.perf_counter() - started)


def _results(narrow: Any, rules: list[Rule], spec: DatasetSpec) -> tuple[RuleResult, ...]:
    failed = _ask(narrow, rules)
    nulls = " OR ".join(f"{key} IS NULL" for key in KEY_COLUMNS)
    found = []
    for rule in (*KEYS, *rules):
        if rule.name not in failed:
            found.append(RuleResult(rule.name, rule.says, passed=True))
        elif rule is KEYS[1]:
            found.append(_examine(narrow.groupBy(*REQUEST_KEY).count().where("count > 1"), rule, spec))
        else:
            found.append(_examine(narrow.where(nulls if rule is KEYS[0] else f"{rule.name} = 1"), rule, spec))
    return tuple(found)


def _ask(narrow: Any, rules: list[Rule]) -> set[str]:
    """Names of rules that fail, by Great Expectations.

    A rule's column holds 1 where a request breaks it, so its expectation is a greatest value of 0: those are native
    and go into one aggregation, where an SQL expectation each would be a job each, in whatever session GX finds.
    """
    gx = _great_expectations()
    expectations = gx.expectations
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    source = context.data_sources.add_spark("requests", persist=False)
    batch = source.add_dataframe_asset("batch").add_batch_definition_whole_dataframe("all")
    asked = [(KEYS[0], expectations.ExpectColumnValuesToNotBeNull(column=key)) for key in KEY_COLUMNS]
    asked.append((KEYS[1], expectations.ExpectCompoundColumnsToBeUnique(column_list=list(REQUEST_KEY))))
    asked += [(rule, expectations.ExpectColumnMaxToBeBetween(column=rule.name, max_value=0)) for rule in rules]
    for rule, expectation in asked:
        expectation.meta = {"rule": rule.name, "says": rule.says}
    suite = context.suites.add(gx.ExpectationSuite(name="requests", expectations=[e for _, e in asked]))
    definition = context.validation_definitions.add(gx.ValidationDefinition(name="audit", data=batch, suite=suite))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcome = definition.run(batch_parameters={"dataframe": narrow}, result_format="BOOLEAN_ONLY")
    if len(outcome.results) != len(asked):
        raise AuditError(f"the suite answered {len(outcome.results)} of {len(asked)} expectations")
    return {result.expectation_config.meta["rule"] for result in outcome.results if not result.success}


def _examine(wrong: Any, rule: Rule, spec: DatasetSpec) -> RuleResult:
    """How many requests break a rule, and which. Raises AuditError where the suite says so and no request does."""
    count = wrong.count()
    if not count:
        raise AuditError(f"expectation {rule.name} could not be run: {rule.says}")
    examples = wrong.select(*REQUEST_KEY).limit(EXAMPLES).collect()
    return RuleResult(rule.name, rule.says, False, count, tuple(_shown(e, spec) for e in examples))


def _shown(key: Any, spec: DatasetSpec) -> str:
    user = "***" if spec.keys.user_id.sensitive else key["user_id"]
    request = "***" if spec.keys.request_id.sensitive else key["request_id"]
    return f"(user {user}, request {request})"


def _great_expectations() -> Any:
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import great_expectations
            import great_expectations.expectations
    except ImportError as error:
        raise NotInstalledError("great_expectations", "quality") from error
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    return great_expectations
