"""Read request tables: an Iceberg snapshot becomes batches that hold each request once."""

from feature_reader.batch import Jagged, Origin, RequestBatch

__all__ = ["Jagged", "Origin", "RequestBatch"]
