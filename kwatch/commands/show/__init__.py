# SPDX-License-Identifier: Apache-2.0
"""The show command: a recording as lines."""
