"""A Spark for small logs: there, planning and compiling take longer than what is planned and compiled.

A third of the CPU of plain settings. Two tasks a stage all the same, so that rows of a request meet from both. The
README's examples and the test of spark-submit run as a user's Spark does.
"""

from __future__ import annotations

MASTER = "local[1]"
QUICK = {
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
    "spark.default.parallelism": "2",
    # Adaptive execution plans anew, and tells the plan to the UI as text, after each stage.
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.ui.explainMode": "simple",
    "spark.sql.maxPlanStringLength": "100",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
}
