/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
#ifndef KWATCH_SHIM_LOG2_H
#define KWATCH_SHIM_LOG2_H

/* A constant expression, because bcc uses it to size maps. */
#define roundup_pow_of_two(n) (1UL << (64 - __builtin_clzll((n) - 1)))

#endif
