/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* LINUX_VERSION_CODE itself is passed by the loader: it is a fact of the running kernel. */
#ifndef KERNEL_VERSION
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + ((c) > 255 ? 255 : (c)))
#endif
