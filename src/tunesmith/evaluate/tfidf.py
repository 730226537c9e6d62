"""A classical baseline to beat: TF-IDF of words or characters with a linear model.

It takes seconds on a CPU. A fine-tuned model that is not better has not earned its cost.
"""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from tunesmith.data.encoded import Array
from tunesmith.tasks.base import Columns, FloatArray, Task

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

MAX_TRAIN_ROWS = 50_000
"""Larger training sets are sampled: the baseline has to be quick."""
MAX_FEATURES = 100_000
MAX_ITERATIONS = 100
INVERSE_PENALTY = 30.0
"""C of the logistic regression: TF-IDF rows have length 1, so a weak penalty is right."""

UNSPACED_SCRIPTS = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")
"""First words of the Unicode names of letters in scripts that put no spaces between words."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a classical model predicted for the test rows."""

    name: str
    predictions: FloatArray
    num_parameters: int
    num_rows: int
    """Training rows it learned from."""


def fits(task: Task) -> bool:
    """Say whether ``fit_and_predict`` knows how to predict what the task does."""
    return task.head().config.get("problem_type", "") in _FITS


def fit_and_predict(task: Task, train_columns: Columns, test_columns: Columns, seed: int) -> Fitted:
    """Fit a linear model on the training rows and predict the test rows, in the form of ``Judge.answers``.

    ``task`` must be bound, and one that this ``fits``. Words (one and two) are the features of spaced text, characters
    (one to three) those of other text. A pair of texts gives both vectors, their absolute difference and product, and
    their cosine.
    """
    head = task.head()
    fit = _FITS[head.config["problem_type"]]
    assert head.num_outputs is not None
    train_columns = _sample(train_columns, seed)
    targets = cast("Array", task.targets(train_columns)[task.truths[0]])
    train_features, test_features, units = _features(_texts(task, train_columns), _texts(task, test_columns))
    with warnings.catch_warnings():
        # Stopping before full convergence is a choice here: the last digits cost most of the time.
        warnings.simplefilter("ignore")
        model, predictions, num_parameters = fit(train_features, targets, test_features, head.num_outputs, seed)
    return Fitted(f"TF-IDF of {units} + {model}", predictions, num_parameters, len(targets))


def has_unspaced_text(texts: Sequence[str]) -> bool:
    """Say whether characters, not words, are the units of the texts, from a sample of them.

    True when at least 3 in 10 letters belong to scripts written without spaces, or the
    "words" are so long or so few that they cannot recur.
    """
    sample = [text[:500] for text in texts[:: max(1, len(texts) // 500)]]
    letters = [letter for text in sample for letter in text if letter.isalpha()]
    if not letters:
        return True
    counts: dict[str, int] = {}
    for letter in letters:
        counts[letter] = counts.get(letter, 0) + 1
    unspaced = sum(n for letter, n in counts.items() if _script(letter) in UNSPACED_SCRIPTS)
    num_words = sum(len(text.split()) for text in sample)
    return unspaced >= 0.3 * len(letters) or len(letters) > 20 * num_words or num_words < 1.5 * len(sample)


def _script(letter: str) -> str:
    return unicodedata.name(letter, "").split(" ")[0].split("-")[0]


def _sample(columns: Columns, seed: int) -> Columns:
    num_rows = len(next(iter(columns.values())))
    if num_rows <= MAX_TRAIN_ROWS:
        return columns
    rows = np.sort(np.random.default_rng(seed).choice(num_rows, MAX_TRAIN_ROWS, replace=False)).tolist()
    return {name: [values[row] for row in rows] for name, values in columns.items()}


def _features(train: list[list[str]], test: list[list[str]]) -> tuple[csr_matrix, csr_matrix, str]:
    """Return the train and test matrices of columns of texts, and what was counted (``words`` or ``characters``)."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = [text for column in train for text in column]
    characters = has_unspaced_text(texts)
    settings: dict[str, Any] = {"sublinear_tf": True, "max_features": MAX_FEATURES, "dtype": np.float64}
    if characters:
        vectorizer = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), **settings)
    else:
        settings["token_pattern"] = r"\w+"  # noqa: S105  (words of one letter too)
        vectorizer = TfidfVectorizer(ngram_range=(1, 2), **settings)
    try:
        matrix = vectorizer.fit_transform(texts)
    except ValueError:  # no words at all: only punctuation, or nothing
        characters = True
        vectorizer = TfidfVectorizer(analyzer="char").fit([*texts, " "])
        matrix = vectorizer.transform(texts)
    num_rows = len(train[0])
    parts = [matrix[first : first + num_rows] for first in range(0, len(texts), num_rows)]
    test_parts = [vectorizer.transform(column) for column in test]
    return _joined(parts), _joined(test_parts), "characters" if characters else "words"


def _texts(task: Task, columns: Columns) -> list[list[str]]:
    return [[text or "" for text in texts] for texts in task.texts(columns).values()]


def _joined(parts: list[Any]) -> Any:
    """Return one matrix of those of each column; of two also how they differ and what they share."""
    from scipy.sparse import csr_matrix, hstack

    if len(parts) != 2:
        return parts[0] if len(parts) == 1 else hstack(parts, format="csr")
    first, second = parts
    product = first.multiply(second)
    cosine = csr_matrix(product.sum(axis=1))
    return hstack([first, second, abs(first - second), product, cosine], format="csr")


def _fit_single_label(train: Any, label_N: Array, test: Any, num_labels: int, seed: int) -> tuple[str, FloatArray, int]:
    """Fit one regression for two labels, else one per label against the rest, scaled to add up to 1."""
    positive_NK = np.arange(num_labels) == np.asarray(label_N, dtype=np.int64)[:, None]
    if num_labels == 2:
        probabilities, num_parameters = _one_against_rest(train, positive_NK[:, 1:], test, seed)
        probabilities = np.hstack([1.0 - probabilities, probabilities])
    else:
        probabilities, num_parameters = _one_against_rest(train, positive_NK, test, seed)
        probabilities /= probabilities.sum(axis=1, keepdims=True)
    return "logistic regression", probabilities, num_parameters


def _fit_multi_label(train: Any, label_NK: Array, test: Any, num_labels: int, seed: int) -> tuple[str, FloatArray, int]:
    del num_labels
    positive_NK = np.asarray(label_NK, dtype=np.float64) > 0.5
    return "logistic regression", *_one_against_rest(train, positive_NK, test, seed)


def _one_against_rest(train: Any, positive_NK: npt.NDArray[np.bool_], test: Any, seed: int) -> tuple[FloatArray, int]:
    """Return each column's probability for the test rows, and the number of coefficients.

    A column that is never or always positive keeps that frequency. Dual coordinate descent
    (Yu, Huang and Lin 2011) with a loose tolerance: many times as fast as L-BFGS on all
    labels at once, and as accurate.
    """
    from sklearn.linear_model import LogisticRegression

    probabilities = np.tile(positive_NK.mean(axis=0), (test.shape[0], 1))
    num_parameters = 0
    for k in range(positive_NK.shape[1]):
        positive_N = positive_NK[:, k]
        if positive_N.any() and not positive_N.all():
            model = LogisticRegression(C=INVERSE_PENALTY, solver="liblinear", dual=True, tol=0.1, random_state=seed)
            model.fit(train, positive_N)
            probabilities[:, k] = model.predict_proba(test)[:, 1]
            num_parameters += int(model.coef_.size + 1)
    return probabilities, num_parameters


def _fit_regression(train: Any, label_N: Array, test: Any, num_outputs: int, seed: int) -> tuple[str, FloatArray, int]:
    from sklearn.linear_model import Ridge

    del num_outputs
    model = Ridge(alpha=1.0, random_state=seed, max_iter=MAX_ITERATIONS).fit(
        train, np.asarray(label_N, dtype=np.float64)
    )
    return "ridge regression", np.asarray(model.predict(test), dtype=np.float64), int(model.coef_.size + 1)


_FITS: dict[str, Callable[[Any, Array, Any, int, int], tuple[str, FloatArray, int]]] = {
    "single_label_classification": _fit_single_label,
    "multi_label_classification": _fit_multi_label,
    "regression": _fit_regression,
}
