"""The dataset spec: one declaration that schema, jobs, suite, views, batches and models follow from."""

from lakehouse.spec.dataset import REQUEST_KEY, Column, DatasetSpec
from lakehouse.spec.fields import EmbeddingTable, Feature, Keys, Label, LabelFiles, Partition, Sequence, SequenceField
from lakehouse.spec.files import dump_yaml, load_spec, parse_spec, spec_from_json
from lakehouse.spec.types import FeatureType

__all__ = [
    "REQUEST_KEY",
    "Column",
    "DatasetSpec",
    "EmbeddingTable",
    "Feature",
    "FeatureType",
    "Keys",
    "Label",
    "LabelFiles",
    "Partition",
    "Sequence",
    "SequenceField",
    "dump_yaml",
    "load_spec",
    "parse_spec",
    "spec_from_json",
]
