/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * System calls that are summed up here, where neither single calls nor stacks are wanted, so that the
 * reader has nothing to do for each.
 *
 * Each CPU has a table that the reader maps. A sum is of the calls with one number of one process,
 * whose durations are in one part of the histogram (kwatch/aggregate/call_cells.py has the same
 * cells). The sums only grow, and the reader takes what was added since it last looked; it frees those
 * of a process that has ended. There may be two sums of the same calls: the reader adds them.
 *
 * Most threads make few calls, and a sum takes more room than some events: the first calls of a
 * thread in each window of about a second are sent singly. So are calls for which there is no room, and
 * those that map memory: the verifier would follow every way through both. Programs on one CPU run one after the other, but where they can be preempted
 * (PERF_TRACEPOINTS), they share the table.
 */
#ifndef KWATCH_CALL_SUMS_H
#define KWATCH_CALL_SUMS_H

#include "histogram.h"

BPF_F_TABLE("array", int, struct call_sums, call_sum_table, 1, BPF_F_MMAPABLE);
BPF_ARRAY_OF_MAPS(call_sum_tables, "call_sum_table", RING_CPUS);
BPF_F_TABLE("array", int, struct call_sum_state, call_sum_state, 1, BPF_F_MMAPABLE);

#define SINGLE_CALLS 64 /* of a thread in one window */
#define SUM_PLACES 8 /* where a sum can be */
#define RAISE_TRIES 8 /* each failed one means that another thread has raised it */

/* True if the thread has made so many calls in this window that its next ones are summed up. */
static __always_inline bool is_busy(struct slot *slot, u16 window)
{
	if (slot->window != window) {
		slot->window = window;
		slot->call.in_window = 0;
	}
	if (slot->call.in_window >= SINGLE_CALLS)
		return true;
	slot->call.in_window++;
	return false;
}

static __always_inline bool claim_sum(struct call_sum_key *key, u64 process)
{
#ifdef PERF_TRACEPOINTS
	return !key->process && !__sync_val_compare_and_swap(&key->process, 0, process);
#else
	if (key->process)
		return false;
	key->process = process;
	return true;
#endif
}

static __always_inline void add_to(u64 *sum, u64 value)
{
#ifdef PERF_TRACEPOINTS
	__sync_fetch_and_add(sum, value);
#else
	*sum += value;
#endif
}

static __always_inline bool raise_to(u64 *sum, u64 value)
{
#ifdef PERF_TRACEPOINTS
#pragma clang loop unroll(disable)
	for (int i = 0; i < RAISE_TRIES; i++) {
		u64 known = *(volatile u64 *)sum;

		if (value <= known || __sync_val_compare_and_swap(sum, known, value) == known)
			return true;
	}
	return false;
#else
	if (value > *sum)
		*sum = value;
	return true;
#endif
}

/* The sum of these calls, made if there is room; otherwise NULL. */
static __always_inline struct call_sum *find_sum(struct call_sums *table, u64 process, u32 call,
						 u64 now)
{
	u32 first = (process ^ ((u64)call << 32)) * GOLDEN_RATIO >> 48, place;

#pragma clang loop unroll(disable)
	for (int i = 0; i < SUM_PLACES; i++) {
		place = (first + i) & (CALL_SUMS - 1);
		if (table->keys[place].process == process && table->keys[place].call == call)
			return &table->sums[place];
	}
#pragma clang loop unroll(disable)
	for (int i = 0; i < SUM_PLACES; i++) {
		place = (first + i) & (CALL_SUMS - 1);
		if (claim_sum(&table->keys[place], process)) {
			table->sums[place].time_ns = now;
			table->keys[place].call = call;
			return &table->sums[place];
		}
	}
	return NULL;
}

/* The calls that are counted together, as in kwatch/aggregate/call_cells.py. */
static __always_inline u32 summed_call(struct call_in_progress *call, u32 bucket)
{
	u32 range = bucket / SUM_BUCKETS, number = (CALL_NUMBERS - 1) << SUM_NUMBER_SHIFT;

	if (call->nr < CALL_NUMBERS - 1)
		number = call->nr << SUM_NUMBER_SHIFT | call->abi;
	return SUM_IN_USE | range << SUM_RANGE_SHIFT | number;
}

/* True if the call, which ended `now`, was added to a sum. */
static __always_inline bool sum_call(struct slot *slot, s64 result, u64 now)
{
	struct call_in_progress *call = &slot->call;
	int first = 0, cpu = bpf_get_smp_processor_id();
	struct call_sum_state *state = call_sum_state.lookup(&first);
	u64 process = (u64)slot->serial << 32 | call->tgid, duration;
	struct call_sums *table;
	struct call_sum *sum;
	void *tables;
	u32 bucket;

	if (!state || !is_busy(slot, state->window))
		return false;
	tables = call_sum_tables.lookup(&cpu);
	table = tables ? bpf_map_lookup_elem(tables, &first) : NULL;
	if (!table)
		return false;
	duration = call->time_ns ? now - call->time_ns : 0;
	bucket = bucket_of(duration);
	sum = find_sum(table, process, summed_call(call, bucket), now);
	if (!sum || !raise_to(&sum->max_ns, duration)) {
		if (!state->is_full)
			state->is_full = 1;
		return false;
	}
	add_to(&sum->buckets[bucket & (SUM_BUCKETS - 1)], 1);
	add_to(&sum->total_ns, duration);
	if (is_error(result))
		add_to(&sum->errors, 1);
	return true;
}

#endif
