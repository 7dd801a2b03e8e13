"""A made-up consistency run: twelve candidates, three seeds, one resolved pair that flips."""

from __future__ import annotations

import copy
from typing import Any

import pytest

BEST_FIRST = (
    *("finalmlp", "dcnv2", "din", "pnn", "autoint", "dcn"),
    *("deepfm", "wide_deep", "dnn", "nfm", "fm", "lr"),
)


def make_consistency() -> dict[str, Any]:
    candidates = []
    for i, architecture in enumerate(BEST_FIRST):
        full = 0.7050 - 0.0022 * i + (0.0009 if i == 3 else 0)
        distilled = 0.6680 - 0.0030 * i
        if architecture == "dcnv2":
            distilled -= 0.0110  # below pnn and others that full training puts clearly behind
        candidates.append(
            {
                "name": f"{architecture}-16",
                "counted": True,
                "error": None,
                "config": {"architecture": architecture, "embedding_size": 16},
                "full": {
                    "auc": [full - 0.0006, full, full + 0.0006],
                    "logloss": [0.58 + 0.001 * i] * 3,
                    "seconds": [41.0 + i] * 3,
                },
                "distilled": {
                    "auc": [distilled - 0.0012, distilled, distilled + 0.0012],
                    "logloss": [0.61 + 0.001 * i] * 3,
                    "seconds": [1.2 + 0.1 * i] * 3,
                },
            }
        )

    def baseline(tau: float, accuracy: float, regret: float, fraction: float) -> dict[str, Any]:
        return {
            "kendall_tau": tau,
            "resolved_pair_accuracy": accuracy,
            "top1_regret": regret,
            "row_visit_fraction": fraction,
            "distilled_seconds": 22.4,
        }

    def part(tau: float | None, ceiling: float | None, num_pairs: int) -> dict[str, Any]:
        return {
            "kendall_tau": tau,
            "kendall_tau_matched": tau,
            "kendall_tau_ceiling": ceiling,
            "resolved_pair_accuracy": None if tau is None else 0.9,
            "num_resolved_pairs": num_pairs // 2,
            "num_pairs": num_pairs,
        }

    return {
        "dataset": "kuairand-sample",
        "num_rows_full": 37645,
        "num_rows_distilled": 753,
        "row_fraction": 0.02,
        "byte_fraction": 0.027,
        "num_candidates": 12,
        "kendall_tau": 0.61,
        "kendall_tau_ceiling": 0.72,
        "kendall_tau_matched": 0.59,
        "kendall_tau_interval": [0.44, 0.75],
        "spearman_rho": 0.78,
        "spearman_rho_ceiling": 0.86,
        "spearman_rho_matched": 0.77,
        "spearman_rho_interval": [0.6, 0.9],
        "resolved_pair_accuracy": 0.92,
        "resolved_pair_accuracy_ceiling": 0.97,
        "resolved_pair_accuracy_matched": 0.93,
        "resolved_pair_accuracy_interval": [0.85, 0.99],
        "num_resolved_pairs": 55,
        "num_pairs": 66,
        "top1_regret": 0.00041,
        "top1_regret_ceiling": 0.0001,
        "top3_overlap": 2 / 3,
        "seed_sd": 0.0006,
        "distilled_seed_sd": 0.0012,
        "resolution_threshold": 0.00196,
        "num_unresolved_distilled_pairs": 7,
        "row_visit_fraction": 0.0167,
        "iteration_speedup": 31.4,
        "amortised_speedup": 5.2,
        "full_seconds": 1690.0,
        "distilled_seconds": 53.8,
        "distill_seconds": 271.0,
        "candidates": candidates,
        "baselines": {
            "random_hard": baseline(0.31, 0.70, 0.0031, 0.0167),
            "random_soft": baseline(0.55, 0.88, 0.0012, 0.0167),
            "recent": baseline(0.39, 0.74, 0.0022, 0.0167),
            "early_stop": baseline(0.42, 0.79, 0.0006, 0.0167),
            "equal_amortised": baseline(0.57, 0.90, 0.0004, 0.12),
            "halving": baseline(0.50, 0.86, 0.0002, 0.11),
            "prior": baseline(0.22, 0.61, 0.0019, 0.0),
        },
        "num_evaluation_rows": 4183,
        "top_half": part(0.42, 0.5, 15),
        "architecture_only": part(0.61, 0.72, 66),
        "hyper_parameter_only": part(None, None, 0),
        "logloss": part(0.58, 0.70, 66),
    }


def make_manifest() -> dict[str, Any]:
    return {
        "stages": [
            {
                "stage": i,
                "rows": 3000 + 17 * i,
                "rows_seen": 3000 * (i + 1),
                "slots": 60 * (i + 1),
                "proposed": 75,
                "addressed": 40 + 3 * (i % 4),
                "fused": 15,
                "refinement_accepted": i % 3 != 1,
                "refinement_loss_before": 0.641 - 0.002 * i,
                "refinement_loss_after": 0.633 - 0.002 * i,
                "mean_influence": 0.81 - 0.01 * i,
                "progressive_log_loss": 0.655 - 0.004 * i + 0.002 * (i % 2),
                "bytes_received": 123_456 + i,
            }
            for i in range(10)
        ]
    }


@pytest.fixture
def consistency() -> dict[str, Any]:
    return copy.deepcopy(make_consistency())


@pytest.fixture
def manifest() -> dict[str, Any]:
    return make_manifest()
