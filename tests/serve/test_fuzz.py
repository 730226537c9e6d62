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
    from schemathesis.specs.openapi import checks as known

    from tunesmith.serve.application import application

    names = ("status_code_conformance", "content_type_conformance", "response_schema_conformance")
    checks = [getattr(known, name) for name in names]
    limits = ServeSettings(num_slots=2, allowed_hosts=("testserver",))
    house = House([folders["chat"], folders["labels"], folders["vectors"]], limits)
    schema = schemathesis.openapi.from_asgi("/openapi.json", application(house))
    seen: set[tuple[str, int]] = set()
    try:
        for operation in [result.ok() for result in schema.get_all_operations()]:
            for mode in schemathesis.GenerationMode:

                @given(case=operation.as_strategy(mode))
                @settings(
                    max_examples=10,
                    deadline=None,
                    derandomize=True,
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                )
                def fuzz(case: schemathesis.Case) -> None:
                    if isinstance(case.body, dict) and isinstance(case.body.get("max_tokens"), int):
                        case.body["max_tokens"] = min(case.body["max_tokens"], 2)
                    response = case.call()
                    seen.add((case.path, response.status_code))
                    assert response.status_code in (200, 400, 404, 405, 413), (case.body, response.text)
                    case.validate_response(response, checks=checks)

                if mode == schemathesis.GenerationMode.POSITIVE or operation.method == "post":
                    fuzz()
    finally:
        house.close()
    assert {path for path, _ in seen} == set(schema.raw_schema["paths"]) - {"/openapi.json"}
    assert {status for _, status in seen} >= {200, 400, 404}
