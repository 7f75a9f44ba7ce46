/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Whether the user's filter (FILTER) wants a call, as far as the kernel knows it: first at the entry,
 * then at the return. The loader puts the C that is made of the filter in place of filter_code.h.
 */
#ifndef KWATCH_RECORD_FILTER_H
#define KWATCH_RECORD_FILTER_H

#ifdef FILTER
#include "filter_call.h"
#include "filter_code.h"

static __always_inline void fill_filter(struct filter_call *filter, struct call_in_progress *call)
{
	filter->comm[0] = call->recorded.comm[0];
	filter->comm[1] = call->recorded.comm[1];
#pragma unroll
	for (int i = 0; i < CAPTURE_CELLS; i++)
		filter->arguments[i] = call->recorded.arguments[i];
	filter->cgroup_id = call->recorded.cgroup_id;
	filter->pid = call->tgid;
	filter->tid = call->recorded.tid;
	filter->uid = call->recorded.uid;
	filter->nr = call->nr;
	filter->abi = call->abi;
}
#endif

/* False if the filter drops the call for what is known at its entry. */
static __always_inline bool passes_entry(struct call_in_progress *call)
{
#ifdef FILTER
	struct filter_call filter = {};

	fill_filter(&filter, call);
	return filter_at_entry(&filter);
#else
	return true;
#endif
}

static __always_inline bool passes_exit(struct call_in_progress *call, s64 result, u64 now)
{
#ifdef FILTER_AT_EXIT
	struct filter_call filter = { .result = result, .duration_ns = -1 };

	fill_filter(&filter, call);
	if (call->time_ns)
		filter.duration_ns = now - call->time_ns;
	return filter_at_exit(&filter);
#else
	return true;
#endif
}

#endif
