/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
#ifndef KWATCH_SHIM_TYPES_H
#define KWATCH_SHIM_TYPES_H

#include <uapi/linux/types.h>

typedef __s8 s8;
typedef __u8 u8;
typedef __s16 s16;
typedef __u16 u16;
typedef __s32 s32;
typedef __u32 u32;
typedef __s64 s64;
typedef __u64 u64;
typedef unsigned long size_t;
typedef unsigned long uintptr_t;
typedef _Bool bool;

enum { false = 0, true = 1 };
#define NULL ((void *)0)
#define __always_inline inline __attribute__((always_inline))

#endif
