"""Every registered architecture, and the toy, keeps the contract."""

import pytest

from keras_video_focalnet.models import registry
from tests.models.conformance import CHECKS, Case, run
from tests.models.conformance_case import BACKEND
from tests.toy import FAMILY

FAMILIES = (*registry.families(), FAMILY)
CASES = {builder.name: Case(family, builder) for family in FAMILIES for builder in family.builders}


def parameters():
    """Every check of every builder; in `make test` most are of the first builder of a family alone, as all are but
    on PyTorch, and what repeats a proof of one backend on another is slow there.
    """
    for name, case in CASES.items():
        for check_name, check in CHECKS.items():
            first = case.builder is case.family.builders[0]
            every = check.every_builder and BACKEND == "torch"
            slow = BACKEND in check.slow_on or not (first or every)
            yield pytest.param(case, check_name, id=f"{name}-{check_name}", marks=[pytest.mark.slow] if slow else [])


@pytest.fixture(autouse=True, scope="module")
def _the_toy_is_registered():
    registry.register(FAMILY)
    yield
    registry.unregister(FAMILY.name)


@pytest.mark.parametrize(("case", "name"), parameters())
def test_conformance(case, name, tmp_path):
    run(case, name, tmp_path)


def test_exclusions_name_checks():
    for case in CASES.values():
        assert set(case.architecture.exclusions) <= set(CHECKS), case.family.title


def test_what_is_excluded_is_skipped_with_its_reason_and_must_fail(tmp_path, monkeypatch):
    case = CASES[FAMILY.builders[0].name]
    monkeypatch.setattr(case.architecture, "exclusions", {"roles": "a reason"})
    with pytest.raises(pytest.fail.Exception, match="passes 'roles'; take it out of its exclusions"):
        run(case, "roles", tmp_path)
    monkeypatch.setattr(type(case.model), "role", classmethod(lambda cls, layer: None))
    with pytest.raises(pytest.skip.Exception, match="Toy: a reason"):
        run(case, "roles", tmp_path)
