# SPDX-License-Identifier: Apache-2.0
"""What the descriptors of traced processes refer to, as their calls tell."""
