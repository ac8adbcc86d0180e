"""What a request table has to satisfy, from the spec, and the suite that proves it."""

from lakehouse.quality.rules import Rule, suite_rules
from lakehouse.quality.suite import RuleResult, ValidationReport, audit, validate

__all__ = ["Rule", "RuleResult", "ValidationReport", "audit", "suite_rules", "validate"]
