"""Every documented operation, asked at random from /openapi.json: no status that is not documented, no 500.

The server is a real one on a free port, around models so small that what is tested is the HTTP side.
"""

from __future__ import annotations

import os

import hypothesis
import pytest
from fastapi.routing import APIRoute

from nexvar.cards import all_cards
from nexvar.serve.app import ROUTERS
from nexvar.serve.service import catalogue
from served import listening, make_server
from tiny import tiny_loaded
from tiny_masked import tiny_masked

CI = bool(os.environ.get("CI"))
try:
    import schemathesis
    from schemathesis import GenerationMode
    from schemathesis.checks import CHECKS, load_all_checks
except ModuleNotFoundError:
    if CI:
        raise
    pytest.skip("schemathesis is not installed (pip install 'nexvar[dev]')", allow_module_level=True)

OPERATIONS = [
    (method, route.path)
    for router in ROUTERS
    for route in router.routes
    if isinstance(route, APIRoute) and route.include_in_schema
    for method in sorted(route.methods)
]
NAMES = ("status_code_conformance", "content_type_conformance", "response_schema_conformance")
load_all_checks()
CHECKED = [CHECKS.get_one(name) for name in NAMES]


@pytest.fixture(scope="module")
def documented():
    for card in all_cards().values():  # asked for the first time it takes seconds
        catalogue.how_it_fits(card)
    with listening(make_server([tiny_loaded(), tiny_masked()], max_tokens=20)) as address:
        yield schemathesis.openapi.from_url(f"http://{address}/openapi.json")


@pytest.mark.parametrize(
    ("method", "path", "mode"),
    [(*operation, GenerationMode.POSITIVE) for operation in OPERATIONS]
    + [(*operation, GenerationMode.NEGATIVE) for operation in OPERATIONS if operation[0] == "POST"],
    ids=lambda value: str(getattr(value, "value", value)),
)
def test_every_operation_answers_as_documented(documented, method, path, mode):
    operation = documented[path][method]

    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    @hypothesis.settings(max_examples=15 if CI else 4, derandomize=True, phases=[hypothesis.Phase.generate])
    def asked(case):
        answer = case.call()
        assert answer.status_code != 500, answer.text
        case.validate_response(answer, checks=CHECKED)
        if answer.status_code >= 400:
            assert {"detail", "error"} <= set(answer.json())

    asked()


GOOD = {
    "/api/v1/score": {"variants": ["chrM:3243A>G", "chrM:1A>T"], "options": {"readouts": ["llr", "l2"]}},
    "/api/v1/saturate": {"region": "chrM:100-103"},
    "/api/v1/score-sequences": {"sequences": ["ACGT"], "reduce": "none"},
    "/api/v1/embed": {"sequences": ["ACGT"]},
    "/api/v1/likelihood": {"sequences": ["ACGTN"], "strand": "both"},
    "/api/v1/fill": {"sequences": ["ACNT"]},
    "/api/v1/generate": {"prompts": ["ACGT"], "n_tokens": 3, "stop": ["A"]},
}


@pytest.mark.parametrize("path", GOOD)
def test_a_good_answer_is_what_the_document_says(documented, path):
    answer = documented[path]["POST"].Case(body=GOOD[path], media_type="application/json").call()
    assert answer.status_code == 200, answer.text
    documented[path]["POST"].validate_response(answer)
