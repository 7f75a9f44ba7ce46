# SPDX-License-Identifier: Apache-2.0
"""`kwatch` without a command: options, the loop, messages on standard error."""
