"""Benchmarks: the sink against its upper bound, a plain MERGE consumer and Quix, in one run."""
