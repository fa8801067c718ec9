"""Every option of every study, with values of every type: read, or told in one line that names the option."""

import inspect

import pytest
from support.strange import STRANGE

from attnprof.errors import AttnprofError
from attnprof.studies import requests

STUDIES = ("sweep", "limits", "recommend", "model")
OPTIONS = [
    (study, option)
    for study in STUDIES
    for option in inspect.signature(getattr(requests, f"{study}_study")).parameters
]  # fmt: skip


@pytest.mark.parametrize(("study", "option"), OPTIONS)
def test_no_value_is_too_strange(study, option):
    fine = {"target": "package.module:Net", "input": "1,3,8,8"} if study == "model" else {}
    shown = {"target": "model", "records": "from"}.get(option, option.replace("_", "-"))
    for value in STRANGE:
        try:
            getattr(requests, f"{study}_study")(**{**fine, option: value})
        except AttnprofError as error:
            assert shown in str(error)
            assert str(error).isprintable()
            assert len(str(error)) < 400
