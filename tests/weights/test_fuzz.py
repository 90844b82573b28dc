"""A few of the mutations of `tests.weights.fuzz`."""

import sys

import pytest

from tests.weights import fuzz

pytestmark = [
    pytest.mark.backend_free,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a process took since it was last asked"),
]


@pytest.mark.parametrize("name", fuzz.READERS)
def test_some_mutations(name):
    outcomes, wrong, _ = fuzz.run(name, 20, seed=0)
    assert wrong == []
    assert outcomes["read"] + outcomes["refused"] + sum(outcomes[key] for key in outcomes if "library" in key) == 20


def test_a_mutation_depends_on_its_numbers_alone(tmp_path):
    content = fuzz.original("zip.pth", tmp_path)
    mutations = [fuzz.mutated("zip.pth", content, 0, number) for number in range(20)]
    assert mutations == [fuzz.mutated("zip.pth", content, 0, number) for number in range(20)]
    assert len(set(mutations) - {content}) > 15
