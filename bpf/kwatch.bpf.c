/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The translation unit. bcc turns only the functions of its main file into programs, so the loader
 * replaces each quoted #include by the file's text.
 */
#include <linux/types.h>
#include <uapi/linux/bpf.h>

#include "events.h"
#include "maps.h"
#include "call_sum_tables.h"
#include "arch.h"
#include "capture_rows.h"
#include "state.h"
#include "rings.h"
#include "slots.h"
#include "tracepoints.h"
#include "last_registers.h"
#ifdef STACKS
#include "stack.h"
#endif
#ifdef HEAP
#include "heap.bpf.c"
#endif
#include "syscalls.bpf.c"
#include "lifecycle.bpf.c"
#ifdef IO_URING
#include "io_uring.bpf.c"
#endif
#ifdef WATCH
#include "watch.bpf.c"
#endif
