# SPDX-License-Identifier: Apache-2.0
"""Growth of simulated programs whose truth is known. See docs/verdicts.md."""
