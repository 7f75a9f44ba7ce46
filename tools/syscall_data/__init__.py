# SPDX-License-Identifier: Apache-2.0
"""Makes the data files of kwatch/syscalls from the kernel's own data and what is added by hand."""
