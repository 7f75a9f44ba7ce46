# SPDX-License-Identifier: Apache-2.0
"""What the commands about recordings share."""

from __future__ import annotations

import importlib.util

from kwatch.errors import KwatchError


def require_packages(*names: str) -> None:
    """Raises KwatchError if one of kwatch's optional packages is not installed."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise KwatchError(
            f"recordings need {' and '.join(missing)}", "install it: pip install 'kwatch[record]'"
        )
