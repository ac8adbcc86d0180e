"""A Spark for small logs: there, planning and compiling take longer than what is planned and compiled.

A third of the CPU of plain settings. Two tasks a stage all the same, so that rows of a request meet from both. The
README's examples and the test of spark-submit run as a user's Spark does.
"""

from __future__ import annotations

MASTER = "local[1]"
QUICK = {
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
    "spark.default.parallelism": "2",
    "spark.sql.adaptive.enabled": "false",  # which plans anew after each stage
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
}
