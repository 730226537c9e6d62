"""What the model card says of embeddings, and the code that makes one in plain ``transformers``."""

from __future__ import annotations

from collections.abc import Mapping

from tunesmith.tasks.card import TaskCard
from tunesmith.tasks.objective import Pooling

_VECTORS: Mapping[Pooling, tuple[str, ...]] = {
    "mean": (
        'mask = inputs["attention_mask"][..., None]',
        "vectors = (states * mask).sum(dim=1) / mask.sum(dim=1)",
    ),
    "first": ("vectors = states[:, 0]",),
    "last": (
        'last = inputs["attention_mask"].sum(dim=1) - 1',
        "vectors = states[torch.arange(len(last)), last]",
    ),
}


def card_of(pooling: Pooling, prefix: str) -> TaskCard:
    """Return the task's part of the card; ``prefix`` is put before texts that are searched by."""
    given = f"{prefix}Your text."
    return TaskCard(
        purpose="gives a text a vector, so that texts that belong together lie near each other",
        pipeline_tag="sentence-similarity",
        limits=("A cosine says something beside those of other pairs of the same kind, and little by itself.",),
        code=(
            'tokenizer.padding_side = "right"',
            f'inputs = tokenizer([{given!r}, "Another text."], padding=True, truncation=True, return_tensors="pt")',
            "with torch.no_grad():",
            "    states = model(**inputs).last_hidden_state",
            *_VECTORS[pooling],
            "vectors = torch.nn.functional.normalize(vectors, dim=-1)",
            "print(vectors[0].tolist())",
        ),
        note="`SentenceTransformer(folder)` of `sentence-transformers` gives the same vectors.",
    )
