// build: -O2
// SPDX-License-Identifier: Apache-2.0
/*
 * Submits requests to an io_uring of its own, without liburing: a no-operation, a write of 5 bytes
 * and a read of 7, an open of a file that is not there, a timeout of 20 ms, and a poll that says more
 * than once that a pipe can be read. With the argument 1, a kernel thread takes the requests (SQPOLL).
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/time_types.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "answers.h"

static struct io_uring_params params;
static char *submissions, *completions;
static struct io_uring_sqe *entries;
static int ring, wakeup;

static unsigned *member(char *area, unsigned offset)
{
	return (unsigned *)(area + offset);
}

static void *map(size_t size, off_t offset)
{
	void *found = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, offset);

	if (found == MAP_FAILED)
		_exit(114);
	return found;
}

static void set_up(void)
{
	ring = syscall(SYS_io_uring_setup, 8, &params);
	if (ring < 0)
		_exit(113);
	submissions = map(params.sq_off.array + params.sq_entries * sizeof(unsigned), IORING_OFF_SQ_RING);
	completions = map(params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe),
			  IORING_OFF_CQ_RING);
	entries = map(params.sq_entries * sizeof(*entries), IORING_OFF_SQES);
}

static void submit(struct io_uring_sqe *request)
{
	unsigned *tail = member(submissions, params.sq_off.tail);
	unsigned mask = *member(submissions, params.sq_off.ring_mask), at = *tail & mask;

	entries[at] = *request;
	member(submissions, params.sq_off.array)[at] = at;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring, 1, 0, wakeup, NULL, 0) != 1)
		_exit(115);
}

static int result(void)
{
	unsigned *head = member(completions, params.cq_off.head);
	unsigned *tail = member(completions, params.cq_off.tail);
	unsigned mask = *member(completions, params.cq_off.ring_mask);
	struct io_uring_cqe *found = (void *)(completions + params.cq_off.cqes);
	int result;

	while (*head == __atomic_load_n(tail, __ATOMIC_ACQUIRE))
		syscall(SYS_io_uring_enter, ring, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0);
	result = found[*head & mask].res;
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	return result;
}

static void make(const char *name, struct io_uring_sqe request)
{
	submit(&request);
	answer(name, result());
}

static void poll_twice(int ends[2])
{
	submit(&(struct io_uring_sqe){ .opcode = IORING_OP_POLL_ADD, .fd = ends[0], .user_data = 66,
				       .len = IORING_POLL_ADD_MULTI, .poll32_events = POLLIN });
	for (int i = 0; i < 2; i++) {
		if (write(ends[1], "x", 1) != 1)
			_exit(116);
		answer("poll", result());
	}
}

int main(int argc, char **argv)
{
	static char data[7] = "hello";
	struct __kernel_timespec delay = { .tv_nsec = 20000000 };
	int file = memfd_create("data", 0), ends[2];

	parse_now(argc, argv);
	if (file < 0 || pipe(ends))
		return 1;
	if (number(argc, argv, 1, 0)) {
		params.flags = IORING_SETUP_SQPOLL;
		wakeup = IORING_ENTER_SQ_WAKEUP;
	}
	stage("ready");
	set_up();
	make("nop", (struct io_uring_sqe){ .opcode = IORING_OP_NOP, .user_data = 11 });
	make("write", (struct io_uring_sqe){ .opcode = IORING_OP_WRITE, .fd = file, .len = 5,
					     .addr = (__u64)data, .user_data = 22 });
	make("read", (struct io_uring_sqe){ .opcode = IORING_OP_READ, .fd = file, .len = 7, .user_data = 33,
					    .addr = (__u64)data, .flags = IOSQE_ASYNC });
	make("openat", (struct io_uring_sqe){ .opcode = IORING_OP_OPENAT, .fd = AT_FDCWD, .user_data = 44,
					      .addr = (__u64)"/nonexistent" });
	make("timeout", (struct io_uring_sqe){ .opcode = IORING_OP_TIMEOUT, .addr = (__u64)&delay, .len = 1,
					       .user_data = 55 });
	poll_twice(ends);
	stage("done");
	return 0;
}
