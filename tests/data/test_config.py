from __future__ import annotations

import pytest
from pydantic import ValidationError

from tunesmith.data import CleanConfig, DataConfig


def test_every_field_has_help():
    for config in (DataConfig, CleanConfig):
        assert all(field.description for field in config.model_fields.values())


@pytest.mark.parametrize(("given", "wanted"), [("tab", "\t"), ("\\t", "\t"), ("semicolon", ";"), ("|", "|")])
def test_delimiters_have_names(given, wanted):
    config = DataConfig(path="x", delimiter=given)
    assert config.delimiter == wanted
    assert DataConfig.model_validate(config.model_dump()) == config


@pytest.mark.parametrize(
    "options",
    [
        {"path": ""},
        {"encoding": "utf-9"},
        {"encoding": "zip"},
        {"encoding": "idna"},
        {"delimiter": "ab"},
        {"delimiter": '"'},
        {"validation_fraction": 0.6, "test_fraction": 0.4},
        {"test_fraction": -0.1},
        {"limit": 0},
        {"bad_rows": "ignore"},
        {"colums": {}},
        {"clean": {"unicode": "NFD"}},
    ],
)
def test_mistakes_are_refused(options):
    with pytest.raises(ValidationError):
        DataConfig(**{"path": "x", **options})
