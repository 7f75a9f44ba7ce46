# SPDX-License-Identifier: Apache-2.0
"""Which processes are traced: found by pid or name, now and later, or launched."""
