"""Benchmarks of the sink beside its ceiling, the usual way and a peer, in one run."""
