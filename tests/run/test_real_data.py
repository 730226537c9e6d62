"""Real data sets train from one command, with nothing said about their columns.

They are read from the folder named by TUNESMITH_TEST_DATA; without it these tests are skipped.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunesmith.run import Run, RunConfig, train

FOLDER = os.environ.get("TUNESMITH_TEST_DATA")

pytestmark = pytest.mark.skipif(FOLDER is None, reason="TUNESMITH_TEST_DATA names no folder of real data sets")

SETS = {
    "sms_spam": ("classification", ("ham", "spam"), "accuracy", 0.95),
    "sst2_sentences": ("classification", ("0", "1"), "accuracy", 0.6),
    "banking77": ("classification", None, "accuracy", 0.5),
    "chnsenticorp": ("classification", ("negative", "positive"), "accuracy", 0.7),
    "stsb": ("regression", None, "spearman", 0.1),
}
"""Folder -> task found, labels found, metric, and the least that a small TextCNN with plain defaults is to reach."""


@pytest.mark.parametrize("name", SETS)
def test_real_data_is_understood_from_a_bare_path(configured: Callable[..., RunConfig], name: str) -> None:
    """All but how well it is learned."""
    run = trained(configured, name, train={"max_steps": 2}, evaluation={"num_resamples": 20, "baseline": False})
    task, labels, metric, _ = SETS[name]
    assert run.task.name == task
    assert labels is None or run.task.head().config["id2label"] == dict(enumerate(labels))
    assert metric in run.evaluation["metrics"]
    messages = [problem["message"] for problem in run.summary["problems"] if problem["severity"] == "warning"]
    if name == "chnsenticorp":
        assert any("also stands in train" in message for message in messages)
        assert any("test rows have no column" in message for message in messages)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "sms_spam" else pytest.mark.slow) for name in SETS]
)
def test_real_data_is_learned_with_plain_defaults(configured: Callable[..., RunConfig], name: str) -> None:
    unsaid = dict.fromkeys(("epochs", "batch_size", "learning_rate", "evaluate_steps")) | {"early_stopping": {}}
    metric, least = SETS[name][2:]
    assert trained(configured, name, train=unsaid).evaluation["metrics"][metric]["value"] > least


def trained(configured: Callable[..., RunConfig], name: str, **sections: Any) -> Run:
    assert FOLDER is not None
    model = {"name": "cnn", "embedding_size": 64, "num_channels": 64}
    config = configured(data={"path": str(Path(FOLDER) / name), "limit": 1500}, model=model, **sections)
    return Run.open(train(config))
