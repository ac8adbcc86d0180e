"""The public Python API, name by name: adding or removing one makes or breaks a promise (docs/promises.md)."""

from __future__ import annotations

from importlib import import_module

import pytest

PUBLIC = {
    "feature_reader": """
        BenchReport BenchRow DataFileError DiskCache Dump FilterError FlatReader FlatReport Jagged MemoryBoundError
        Origin Plan Position Predicate RanksDisagreeError ReadUnit Reader ReaderError ReaderStats Replay RequestBatch
        SkipRequests Source StateError UnsupportedError bench dump load_dump replay trace
    """,
    "lakehouse.quality": "Rule RuleResult ValidationReport audit suite_rules validate",
    "lakehouse.report": """
        Bin ColumnBytes DedupReport Distribution Factor Layout dedup_report print_report write_html
    """,
    "lakehouse.spec": """
        REQUEST_KEY Column DatasetSpec EmbeddingTable Feature FeatureType Keys Label LabelFiles Partition Sequence
        SequenceField
        dump_yaml load_spec parse_spec spec_from_json
    """,
    "lakehouse.sql": "Explanation ScanPlan explain names query stream",
    "lakehouse.tags": """
        READER Pinned ReaderLease TagDiff TrainingSet create_tag diff_tags drop_ended_leases drop_tag list_tags
        reader_lease reading successor tag_of write_diff_page
    """,
    "reqlake": """
        DatasetSpec Engine Jagged Reader ReqlakeError RequestBatch Settings TrainConfig build_session evaluate
        infer_spec ingest load_settings load_spec score sql train
    """,
    "training.models": "ModelInputs Ranker RankerConfig Task",
    "training.ops": """
        CrossingPlan context_attention crossing_attention linear_gelu paged_crossing_attention segment_expand
        segment_sum
    """,
}


@pytest.mark.parametrize("package", PUBLIC)
def test_a_package_offers_these_names_and_no_others(package: str) -> None:
    module = import_module(package)
    assert sorted(module.__all__) == sorted(PUBLIC[package].split())
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
