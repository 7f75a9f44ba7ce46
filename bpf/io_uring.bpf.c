/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Requests of io_uring, which need no system call each: a record for each completion, with what was
 * known at the submission. The programs read perf's records of the tracepoints, in which only the
 * places of the members differ between kernels: IO_SUBMIT_... and IO_COMPLETE_..., 0 for one that the
 * kernel does not have (kwatch/programs/io_uring.py).
 *
 * A completion may have no request's address: further ones of a multishot request, and all before
 * Linux 5.18. It is found by its ring and its user data then, which need not be unique.
 */

#define CQE_F_MORE 2 /* further completions follow: include/uapi/linux/io_uring.h */
#define UNKNOWN_OPCODE 0xffff

/* The oldest are forgotten: some requests have no completion (IOSQE_CQE_SKIP_SUCCESS). */
BPF_TABLE("lru_hash", u64, struct io_request, io_requests, 16384);

#define MEMBER(type, ctx, offset) ((offset) ? *(type *)((void *)(ctx) + (offset)) : 0)

static __always_inline u64 request_key(u64 ring, u64 user_data)
{
	return ring ^ (user_data + 1) * GOLDEN_RATIO;
}

/* Whether the current thread's requests are traced. Kernel threads of a ring are its process's. */
static __always_inline bool traces_requests(u32 tgid)
{
	struct target *target = current_target(tgid);

	return target && !(target->flags & (TARGET_WAITING | TARGET_HEAP_ONLY));
}

int io_submitted(void *ctx)
{
	u64 id = bpf_get_current_pid_tgid(), task = bpf_get_current_task();
	u64 request = MEMBER(u64, ctx, IO_SUBMIT_REQ), key;
	struct io_request new = {};

	if (!traces_requests(id >> 32))
		return 0;
	new.time_ns = bpf_ktime_get_ns();
	new.flags = MEMBER(IO_FLAGS_TYPE, ctx, IO_SUBMIT_FLAGS) & 0xff; /* those of the program */
	new.user_data = MEMBER(u64, ctx, IO_SUBMIT_USER_DATA);
	take_comm(new.comm, task);
	new.tgid = id >> 32;
	new.tid = id;
	new.opcode = MEMBER(u8, ctx, IO_SUBMIT_OPCODE);
	if (request)
		io_requests.update(&request, &new);
	new.is_copy = !!request;
	key = request_key(MEMBER(u64, ctx, IO_SUBMIT_CTX), new.user_data);
	io_requests.update(&key, &new);
	return 0;
}

/* What is known of a completion whose request was not seen. */
static __always_inline bool assume_own(struct io_request *found)
{
	u64 id = bpf_get_current_pid_tgid();

	if (!traces_requests(id >> 32))
		return false;
	take_comm(found->comm, bpf_get_current_task());
	found->tgid = id >> 32;
	found->tid = id;
	return true;
}

static __always_inline void send_completion(void *ctx, struct io_request *request, bool is_known)
{
	struct open_call open = {};
	struct kwatch_syscall *call;
	u64 now = bpf_ktime_get_ns();

	if (!open_call(&open)) {
		count_loss(request->tgid, LOSS_SYSCALL_RING_FULL);
		return;
	}
	__builtin_memset(open.record->arguments, 0, sizeof(open.record->arguments));
	open.record->arguments[0] = MEMBER(u64, ctx, IO_COMPLETE_USER_DATA);
	open.record->arguments[1] = request->flags;
	open.record->arguments[2] = MEMBER(u32, ctx, IO_COMPLETE_CFLAGS);
	open.record->comm[0] = request->comm[0];
	open.record->comm[1] = request->comm[1];
	open.record->cgroup_id = 0;
	open.record->stack = 0;
	open.record->uid = 0;
	open.record->entry_tid = request->tid;
	open.record->ip = 0;
	open.record->seq = 0;
	open.record->flags = 0;
	call = &open.record->call;
	call->type = EVENT_IO_REQUEST;
#ifdef __x86_64__
	call->abi = ABI_X86_64;
#else
	call->abi = ABI_AARCH64;
#endif
	call->nr = is_known ? request->opcode : UNKNOWN_OPCODE;
	call->tid = request->tid;
	call->time_ns = now;
	call->duration_ns = is_known ? now - request->time_ns : 0;
	call->result = (s64)MEMBER(IO_RESULT_TYPE, ctx, IO_COMPLETE_RES);
	close_call(&open, request->tgid);
}

int io_completed(void *ctx)
{
	u64 request = MEMBER(u64, ctx, IO_COMPLETE_REQ), key;
	struct io_request *known = request ? io_requests.lookup(&request) : NULL, copy = {};

	key = request_key(MEMBER(u64, ctx, IO_COMPLETE_CTX), MEMBER(u64, ctx, IO_COMPLETE_USER_DATA));
	if (!known)
		known = io_requests.lookup(&key);
	if (known)
		copy = *known;
	else if (!assume_own(&copy))
		return 0;
	send_completion(ctx, &copy, known);
	if (known && !(MEMBER(u32, ctx, IO_COMPLETE_CFLAGS) & CQE_F_MORE)) {
		io_requests.delete(&key);
		if (request)
			io_requests.delete(&request);
	}
	return 0;
}
