"""Raw logs as they lie: files found on disk and on S3, their format, schema and partitions, read without Spark."""
