"""The suite, run by Great Expectations over a Spark frame of the request table.

One scan computes every rule into a narrow frame, which is cached; native expectations (keys not null and unique) and
one SQL expectation over all rules look at that, yes or no. Only if that says no is each rule asked, with examples.
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
    open_request_table(open_catalog(settings), spec, settings)
    frame = spark.table(f"{settings.catalog.in_spark}.{spec.table('requests')}")
    return audit(frame, spec)


def audit(frame: Any, spec: DatasetSpec) -> ValidationReport:
    """Run the suite on a Spark frame of request rows. Raises NotInstalledError without Great Expectations."""
    started = time.perf_counter()
    rules = suite_rules(spec)
    flags = [f"coalesce({r.broken}, false) AS rule_{i}" for i, r in enumerate(rules)]
    narrow = frame.selectExpr(*REQUEST_KEY, "request_ts", *flags).persist()
    try:
        rows = narrow.count()
        results = _results(narrow, rules, spec)
    finally:
        narrow.unpersist()
    return ValidationReport(spec.table("requests"), rows, results, time.perf_counter() - started)


def _results(narrow: Any, rules: list[Rule], spec: DatasetSpec) -> tuple[RuleResult, ...]:
    failed = _ask(narrow, rules)
    if not failed:
        return tuple(RuleResult(r.name, r.says, passed=True) for r in [*KEYS, *rules])
    found = [
        _examine(narrow, KEYS[0], " OR ".join(f"{k} IS NULL" for k in (*REQUEST_KEY, "request_ts")), spec),
        _examine_unique(narrow, spec),
    ]
    return (*found, *(_examine(narrow, rule, f"rule_{i}", spec) for i, rule in enumerate(rules)))


def _ask(narrow: Any, rules: list[Rule]) -> bool:
    """Whether any expectation fails, by Great Expectations."""
    gx = _great_expectations()
    expectations = gx.expectations
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    source = context.data_sources.add_spark("requests", persist=False)
    batch = source.add_dataframe_asset("batch").add_batch_definition_whole_dataframe("all")
    suite = context.suites.add(gx.ExpectationSuite(name="requests"))
    for key in (*REQUEST_KEY, "request_ts"):
        suite.add_expectation(expectations.ExpectColumnValuesToNotBeNull(column=key))
    suite.add_expectation(expectations.ExpectCompoundColumnsToBeUnique(column_list=list(REQUEST_KEY)))
    if rules:
        broken = " OR ".join(f"rule_{i}" for i in range(len(rules)))
        query = f"SELECT user_id FROM {{batch}} WHERE {broken}"
        suite.add_expectation(expectations.UnexpectedRowsExpectation(unexpected_rows_query=query))
    definition = context.validation_definitions.add(gx.ValidationDefinition(name="audit", data=batch, suite=suite))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcome = definition.run(batch_parameters={"dataframe": narrow}, result_format="BOOLEAN_ONLY")
    for result in outcome.results:
        if result.exception_info and result.exception_info.get("raised_exception"):
            raise AuditError(f"the suite could not be run: {result.exception_info}")
    return not outcome.success


def _examine(narrow: Any, rule: Rule, broken: str, spec: DatasetSpec) -> RuleResult:
    wrong = narrow.where(broken)
    count = wrong.count()
    examples = wrong.select(*REQUEST_KEY).limit(EXAMPLES).collect() if count else []
    return RuleResult(rule.name, rule.says, count == 0, count, tuple(_shown(e, spec) for e in examples))


def _examine_unique(narrow: Any, spec: DatasetSpec) -> RuleResult:
    doubled = narrow.groupBy(*REQUEST_KEY).count().where("count > 1")
    count = doubled.count()
    examples = doubled.limit(EXAMPLES).collect() if count else []
    return RuleResult(KEYS[1].name, KEYS[1].says, count == 0, count, tuple(_shown(e, spec) for e in examples))


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
