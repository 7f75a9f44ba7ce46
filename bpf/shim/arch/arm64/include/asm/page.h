/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The loader passes the running page size: arm64 kernels come with 4, 16 and 64 KiB. */
#ifndef PAGE_SIZE
#define PAGE_SIZE 4096UL
#endif
