/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What a filter compares of a system call. kwatch/syscalls/filter/kernel_code.py makes two functions
 * of a filter, filter_at_entry() and filter_at_exit().
 *
 * All members but the last two are values at the entry, also in filter_at_exit(): a call may change
 * them (prctl, setuid, execve), and user space compares those of the entry. They must be equal to
 * those in the record of the call, or a call that the filter accepts may be dropped.
 */
#ifndef KWATCH_FILTER_CALL_H
#define KWATCH_FILTER_CALL_H

struct filter_call {
	__u64 comm[2]; /* filled up with zeros */
	__s64 arguments[6]; /* of a 32-bit caller without sign; 0: the call takes no such argument */
	__u64 cgroup_id;
	__u32 pid; /* tgid */
	__u32 tid;
	__u32 uid;
	__u16 nr;
	__u8 abi; /* enum kwatch_abi */
	__u8 unused;
	__s64 result; /* sign-extended for a 32-bit caller */
	__s64 duration_ns; /* -1: not known */
};

#endif
