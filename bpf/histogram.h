/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The histogram of kwatch/aggregate/histogram.py: 16 buckets for each power of two. A test compiles
 * this and compares both.
 */
#ifndef KWATCH_HISTOGRAM_H
#define KWATCH_HISTOGRAM_H

#define LOWEST_LOG2 4
#define HIGHEST_LOG2 44
#define STEPS_LOG2 4
#define BUCKETS ((HIGHEST_LOG2 - LOWEST_LOG2) << STEPS_LOG2)
#define FLOAT_BITS 24 /* of the mantissa of a float, which Python rounds to */

/* Of a value above 0. Without branches, because the verifier would follow each way through them. */
static __always_inline __u32 log2_of(__u64 value)
{
	__u64 found = 0, upper, step;

#pragma unroll
	for (int shift = 5; shift >= 0; shift--) {
		upper = value >> (1 << shift);
		step = ((upper | -upper) >> 63) << shift; /* 0, or 1 << shift */
		value >>= step;
		found += step;
	}
	return found;
}

static __always_inline __u32 bucket_of(__u64 duration)
{
	__u32 octave;

	if (duration >> HIGHEST_LOG2)
		return BUCKETS - 1;
	if (!(duration >> LOWEST_LOG2))
		return 0;
	octave = log2_of(duration);
	if (octave >= FLOAT_BITS) {
		duration += 1ULL << (octave - FLOAT_BITS);
		octave += duration >> octave >> 1;
	}
	if (octave >= HIGHEST_LOG2)
		return BUCKETS - 1;
	duration >>= octave - STEPS_LOG2; /* begins with a 1, which is not stored */
	return ((octave - LOWEST_LOG2) << STEPS_LOG2) + (duration & ((1 << STEPS_LOG2) - 1));
}

#endif
