"""What `benchmarks.crossing_attention` and `benchmarks.tune_crossing` share."""
