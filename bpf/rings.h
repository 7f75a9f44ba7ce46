/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The data rings, one for each CPU: write_syscall() and write_heap(). */
#ifndef KWATCH_RINGS_H
#define KWATCH_RINGS_H

#if defined(RECORD)
#define SYSCALL_RECORD struct kwatch_call
#elif defined(CALL_STACKS)
#define SYSCALL_RECORD struct kwatch_stacked_syscall
#else
#define SYSCALL_RECORD struct kwatch_syscall
#endif

#ifdef MAPPED_RINGS
#include "mapped_rings.h"
#else
#include "bpf_rings.h"
#endif

#endif
