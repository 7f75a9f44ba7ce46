# SPDX-License-Identifier: Apache-2.0
"""`python -m kwatch`."""

import sys

from kwatch.cli import main

sys.exit(main())
