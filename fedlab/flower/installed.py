"""Which Flower is installed, and what is said when it is not as expected."""

from __future__ import annotations

import os
import sys
from importlib import metadata

from fedlab.lessons import CLONE

SUPPORTED = ((1, 41), (2, 0))
"""From this version of Flower on, and before that one."""

QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",  # nothing is reported to Flower's makers,
    "RAY_USAGE_STATS_ENABLED": "0",  # nor to Ray's
    "FLWR_DISABLE_UPDATE_CHECK": "1",  # works without internet
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray warns of a coming change in how it hides GPUs
    # The workers use this environment, also where uv started us.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}
"""Environment of everything of Flower that fedlab starts; who has set one of these has decided."""


class FlowerError(RuntimeError):
    """Flower, or a run on it, is not as expected; the message says what was found and what was
    expected.
    """


def check_flower() -> None:
    """Raises FlowerError unless a supported Flower is installed. Switches off what it would report
    and look up, before it is first imported.
    """
    expected = f"expected flwr {SUPPORTED[0][0]}.{SUPPORTED[0][1]} or a later {SUPPORTED[0][0]}.x"
    how = 'python -m pip install "fedlab-notebooks[flower]" installs it'
    if CLONE:
        how = (
            "python -m pip install -r requirements-flower.txt in fedlab's folder (or: make flower)"
            " installs it"
        )
    try:
        version = metadata.version("flwr")
    except metadata.PackageNotFoundError:
        raise FlowerError(f"Flower is not installed; {expected}: {how}") from None
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if not SUPPORTED[0] <= numbers < SUPPORTED[1]:
        raise FlowerError(f"the Flower that is installed is flwr {version}; {expected}: {how}")
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    # Imported before, by somebody else: it has read its variable already
    if telemetry := sys.modules.get("flwr.supercore.telemetry"):
        telemetry.FLWR_TELEMETRY_ENABLED = os.environ["FLWR_TELEMETRY_ENABLED"]
