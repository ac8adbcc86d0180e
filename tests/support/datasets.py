"""What tests need of data: specs, raw logs, the plain reference, and tables without Spark."""

from tests.support.raw_logs import T0, raw_log
from tests.support.reference import reference_requests, string_id, write_request_table
from tests.support.specs import SPECS

__all__ = ["SPECS", "T0", "raw_log", "reference_requests", "string_id", "write_request_table"]
