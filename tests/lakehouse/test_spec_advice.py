"""How a table is cut into files: what is suggested, and what is said of a bad choice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.spec import DatasetSpec
from lakehouse.spec.advice import LEAST_FILE, MB, MOST_FILE, SMALL_BUCKETS, Volume, describe, expected, judge, suggest
from lakehouse.spec.fields import Partition
from tests.support.datasets import SPECS

volumes = st.builds(
    Volume,
    bytes_per_request=st.floats(100, 1e6),
    requests_per_day=st.floats(0.1, 1e9),
    requests=st.floats(1, 1e12),
)


@given(volumes)
def test_what_is_suggested_is_good_by_its_own_measure(volume: Volume) -> None:
    advice = judge(suggest(volume), volume)
    assert advice.verdict != "small"
    small_table = advice.partition == Partition(grain="none", buckets=SMALL_BUCKETS)
    assert advice.bytes_per_file >= LEAST_FILE or small_table
    assert advice.partition.buckets & (advice.partition.buckets - 1) == 0, "a power of two"


def test_small_data_gets_few_files() -> None:
    movielens = Volume(bytes_per_request=4000, requests_per_day=1.4, requests=11_302)
    assert suggest(movielens) == Partition(grain="none", buckets=4)
    assert judge(Partition(grain="none", buckets=4), movielens).verdict == "good"


def test_days_of_a_small_table_are_called_too_small_and_the_remedy_is_named() -> None:
    movielens = Volume(bytes_per_request=4000, requests_per_day=1.4, requests=11_302)
    advice = judge(Partition(grain="day", buckets=4), movielens)
    assert advice.verdict == "small"
    assert "{grain: none, buckets: 4}" in str(advice)


@pytest.mark.parametrize(("a_day", "grain"), [(1e6, "day"), (30_000, "month"), (500, "year"), (10, "none")])
def test_the_grain_follows_the_volume(a_day: float, grain: str) -> None:
    volume = Volume(bytes_per_request=4000, requests_per_day=a_day, requests=a_day * 800)
    assert suggest(volume).grain == grain


def test_a_file_of_many_gigabytes_is_too_large() -> None:
    volume = Volume(bytes_per_request=1e6, requests_per_day=1e6, requests=1e9)
    advice = judge(Partition(grain="month", buckets=2), volume)
    assert advice.verdict == "large"
    assert advice.bytes_per_file > MOST_FILE
    assert advice.better.grain == "day"


def test_further_partition_columns_stay_in_the_advice() -> None:
    volume = Volume(bytes_per_request=4000, requests_per_day=1, requests=100)
    advice = judge(Partition(grain="day", buckets=64, columns=("country",)), volume)
    assert describe(advice.better) == "{grain: none, buckets: 4, columns: [country]}"


@pytest.mark.parametrize("name", SPECS)
def test_a_volume_from_the_spec_alone_grows_with_rows_and_history(name: str) -> None:
    spec = SPECS[name]
    small, large = expected(spec, rows_per_day=1e5), expected(spec, rows_per_day=1e7)
    assert large.requests == 100 * small.requests
    assert small.bytes_per_request == large.bytes_per_request
    assert longer(spec) > small.bytes_per_request


def longer(spec: DatasetSpec) -> float:
    """Bytes of a request where every history is of 10,000 events."""
    sequences = {n: s.model_copy(update={"max_length": 10_000}) for n, s in spec.sequences.items()}
    return expected(spec.model_copy(update={"sequences": sequences}), 1e5).bytes_per_request


def test_a_day_of_ten_million_impressions() -> None:
    """62,500 requests a day of 5 KB each: 300 MB a day, two buckets of 150 MB."""
    volume = Volume(bytes_per_request=5 * 1024, requests_per_day=62_500, requests=62_500 * 365)
    assert suggest(volume) == Partition(grain="day", buckets=2)
    assert judge(suggest(volume), volume).bytes_per_file == pytest.approx(152.6 * MB, rel=0.01)
