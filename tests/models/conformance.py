"""What every architecture keeps, as checks of one builder each.

    from tests.models.conformance import CHECKS, Case, run
    run(Case(family, builder), "clone", folder)

runs one check, and `CHECKS` names them all. An architecture that cannot pass one says why in its class attribute
`exclusions`. Models are made small by `small_arguments` of the class: fewer channels, blocks and pixels.
"""

from tests.models import conformance_layers, conformance_models  # noqa: F401  (they register their checks)
from tests.models.conformance_case import CHECKS, Case, Check, run

__all__ = ["CHECKS", "Case", "Check", "run"]
