"""The description of the routes, fuzzed: whatever a client sends, the answer is one that the description knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunesmith.serve.house import House
from tunesmith.serve.settings import ServeSettings

pytest.importorskip("starlette")
schemathesis = pytest.importorskip("schemathesis", reason="the fuzzer is installed by make test-extras")

pytestmark = pytest.mark.slow


def test_no_request_is_answered_as_the_description_does_not_say(folders: dict[str, Path]) -> None:
    from hypothesis import HealthCheck, Phase, given, settings

    from tunesmith.serve.application import application

    house = House([folders["chat"], folders["labels"], folders["vectors"]], ServeSettings(num_slots=2))
    app = application(house)
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers={"Host": "localhost"})
    seen: set[tuple[str, int]] = set()
    try:
        for operation in [result.ok() for result in schema.get_all_operations()]:

            @given(case=operation.as_strategy())
            @settings(
                max_examples=12,
                deadline=None,
                derandomize=True,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            def fuzz(case: schemathesis.Case) -> None:
                if isinstance(case.body, dict) and "max_tokens" in case.body:
                    case.body["max_tokens"] = 2
                response = case.call(headers={"Host": "localhost"})
                seen.add((case.path, response.status_code))
                case.validate_response(response)

            fuzz()
    finally:
        house.close()
    assert {path for path, _ in seen} == set(schema.raw_schema["paths"])
    assert all(status in (200, 400, 404, 413) for _, status in seen), seen
