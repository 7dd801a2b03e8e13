from __future__ import annotations

from benchmarks.laboratory.candidates import candidates_of
from diet_ray.models.catalogue import build, core_candidates
from tests.models.rows import FEATURES


def test_eighty_distinct_candidates_that_build_and_vary_in_every_respect() -> None:
    candidates = candidates_of(FEATURES)
    assert len({c.identity for c in candidates}) >= 80
    assert {c.architecture for c in candidates} == {c.architecture for c in core_candidates()}
    for name in ("embedding_size", "hidden_sizes", "dropout", "weight_decay", "without_fields"):
        assert len({getattr(c, name) for c in candidates}) >= 3
    for candidate in candidates:
        build(candidate, FEATURES, seed=0)


def test_the_same_for_every_log() -> None:
    first, again = candidates_of(FEATURES), candidates_of(FEATURES)
    assert first == again
    assert candidates_of(FEATURES, draws=0) == [c for c in first if "-" not in c.name]
