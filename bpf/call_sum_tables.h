/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The tables of call_sums.h, which Python maps: kwatch/wire/maps.py has the same structures. */
#ifndef KWATCH_CALL_SUM_TABLES_H
#define KWATCH_CALL_SUM_TABLES_H

#define CALL_SUMS 1024 /* of one CPU; a power of two */
#define SUM_BUCKETS 64 /* of the histogram's, those of one sum */

/* What a sum is of. See call_sums.h. */
struct call_sum_key {
	__u64 process; /* its tgid, and in the upper half its serial; 0: free */
	__u32 call;
	__u32 reserved;
};

/* `call` of a key: the ABI, the number, the part of the histogram; and whether it is in use. */
#define SUM_NUMBER_SHIFT 8
#define SUM_RANGE_SHIFT 24
#define SUM_RETIRED (1 << 30) /* no call is added any more */
#define SUM_IN_USE (1U << 31)

struct call_sum {
	__u64 time_ns; /* at the return of the first call */
	__u64 total_ns;
	__u64 max_ns;
	__u64 errors;
	__u64 reserved[4]; /* the histogram has cache lines of its own */
	__u64 buckets[SUM_BUCKETS];
};

struct call_sums {
	struct call_sum_key keys[CALL_SUMS];
	struct call_sum sums[CALL_SUMS];
};

struct call_sum_state {
	__u64 window; /* Python counts it up */
	__u64 is_full; /* a call has found no room */
};

#endif
