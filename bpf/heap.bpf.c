/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Allocator calls: uprobes at the entry and the return of the functions in kwatch/wire/allocators.py.
 *
 * Only the outermost call of a thread counts. A call is identified by the stack pointer at its entry:
 * calls that start below it are nested, and its return restores that stack pointer. An allocation is
 * recorded at its return, a free at its entry, before the address can be reused.
 *
 * A call that an exception or longjmp() leaves never returns. Until that is detected, later calls
 * seem nested in it and are lost; they are counted.
 */

/* A call that has had nested calls for longer than this has been left without a return. */
#define STALE_NS 1000000000ULL

/* A freed block; see is_repeated. */
struct release {
	u64 pointer; /* 0 after the next allocation */
	u64 sp;
	u64 caller; /* the return address */
	u64 place; /* the probe that saw it first */
	u64 passed_place; /* the probe that saw it last, if a function passed it on */
};

struct thread {
	u64 mm_id;
	u64 sp; /* of the pending outermost call at its entry; 0: none */
	u64 size;
	u64 pointer; /* the pointer argument; 0 if there is none */
	u64 caller; /* of a pending operator new: its return address */
	u64 nested_ns; /* when the first nested call started; 0: none did */
	struct last_stack last;
	struct release released; /* the last one */
	u32 tgid; /* whose heap it is */
	u32 process; /* of the thread; it differs if the process shares another one's memory */
	u32 tid;
	u32 records; /* sent by the thread: see write_record */
	u32 nested; /* calls in the pending one */
	u8 function;
	u8 signature;
	u8 scratch; /* of the unwinding in progress */
	u8 reserved;
#ifndef HEAP_COOKIE
	u64 place; /* of the pending call's probe */
#endif
};

#include "heap_arguments.h"

BPF_HASH(threads, u32, struct thread, 65536);
BPF_PROG_ARRAY(no_programs, 1);
BPF_PROG_ARRAY(no_entry_programs, 1); /* for programs of the other attach type: see heap_session.h */
BPF_ARRAY(called_files, u8, MAX_PROBED_FILES); /* by COOKIE_FILE: 1 after the first call */

#include "heap_session.h"

/*
 * Since Linux 6.13 (commit a76ab5731e32, "bpf: Find eligible subprogs for private stack support") a
 * program of this type may get a private stack for each CPU. Uprobes run preemptible, so the next
 * thread's program would overwrite the stack of the preempted one. A program with a tail call uses
 * the thread's kernel stack. This tail call never happens, because no stack is at address 0.
 */
static __always_inline void keep_to_kernel_stack(struct pt_regs *ctx)
{
	if (!STACK_POINTER(ctx))
		no_programs.call(ctx, 0);
}

static __always_inline void keep_entry_to_kernel_stack(struct pt_regs *ctx)
{
	if (!STACK_POINTER(ctx))
		no_entry_programs.call(ctx, 0);
}

static __always_inline struct thread *new_thread(u32 tid, u32 tgid)
{
	struct target *target = current_target(tgid);
	struct thread thread = {
		.tgid = tgid, .process = tgid, .tid = tid, .records = first_count(),
	};

	if (target && target->owner) {
		thread.tgid = target->owner;
		target = find_target(thread.tgid);
	}
	if (!target || target->flags & TARGET_WAITING)
		return NULL;
	thread.mm_id = target->mm_id;
	if (threads.update(&tid, &thread)) {
		count_loss(tgid, LOSS_THREADS_MAP_FULL);
		return NULL;
	}
	return threads.lookup(&tid);
}

/* Whether the owner of a shared heap still has it: not after its end or its exec. */
static __always_inline bool is_still_shared(struct thread *thread)
{
	struct target *owner = find_target(thread->tgid);

	return owner && owner->mm_id == thread->mm_id;
}

static __always_inline struct thread *current_thread(void)
{
	u64 id = bpf_get_current_pid_tgid();
	u32 tid = id, tgid = id >> 32;
	struct thread *thread = threads.lookup(&tid);

	if (!thread || thread->process != tgid)
		return new_thread(tid, tgid);
	return thread->tgid == tgid || is_still_shared(thread) ? thread : NULL;
}

#include "shared_heap.h"

/* `records`: the writer's count of records. */
static __always_inline void send_heap(struct kwatch_heap *event, u32 tgid, u32 tid, u32 *records)
{
	int cpu = bpf_get_smp_processor_id();

	event->time_ns = bpf_ktime_get_ns();
	event->tgid = tgid;
	event->tid = tid;
	if (!write_record(heap_rings.lookup(&cpu), event, sizeof(*event), records))
		count_loss(tgid, LOSS_HEAP_RING_FULL);
}

static __always_inline void send_thread(struct kwatch_heap *event, struct thread *thread)
{
	send_heap(event, thread->tgid, thread->tid, &thread->records);
}

static __always_inline void send_release(struct thread *thread, u8 type, u64 address, u8 function)
{
	struct kwatch_heap event = { .type = type, .function = function, .address = address };

	if (address)
		send_thread(&event, thread);
}

/*
 * operator delete calls another one or free, and a wrapper's free calls the real one: these are the
 * same release, seen at another probe while the first call's return address is still in place. If it
 * is not, or if this probe has seen the release before, it is a new one: another thread got the block
 * meanwhile.
 */
static __always_inline bool is_repeated(struct thread *thread, struct pt_regs *ctx, u64 pointer)
{
	u64 sp = STACK_POINTER(ctx), place = INSTRUCTION_POINTER(ctx);
	struct release *last = &thread->released;

	if (last->pointer == pointer && sp <= last->sp && place != last->place &&
	    place != last->passed_place &&
	    return_address_of(ctx, last->sp, last->caller) == last->caller) {
		last->passed_place = place;
		return true;
	}
	last->pointer = pointer;
	last->sp = sp;
	last->caller = return_address_of(ctx, sp, 0);
	last->place = place;
	last->passed_place = 0;
	return false;
}

/* Makes the address of the block, 0 if the call failed, of the result; false if it cannot be read. */
static __always_inline bool read_result(struct thread *thread, u64 *result)
{
	if (thread->signature == SIGNATURE_RESIZE) {
		*result = *result < thread->size ? 0 : thread->pointer;
		return true;
	}
	if (thread->signature != SIGNATURE_POSIX_MEMALIGN)
		return true;
	if ((u32)*result) {
		*result = 0;
		return true;
	}
	return !read_user(result, sizeof(*result), (void *)thread->pointer);
}

static __always_inline void allocation_failed(struct thread *thread)
{
	struct kwatch_heap event = {
		.type = EVENT_ALLOC_FAILED,
		.function = thread->function,
		.size = thread->size,
	};

	/* realloc(p, 0) may free p and return NULL, malloc(0) may return NULL: not failures. */
	if (!thread->size)
		return;
	if (thread->size < MIN_SIZE || thread->size > MAX_SIZE)
		event.size = 0; /* not reported; only the old block matters */
	if (is_realloc(thread->signature) && !is_one_of(thread->signature, FREES_ON_FAILURE))
		send_release(thread, EVENT_REALLOC_KEEP, thread->pointer, thread->function);
	if (event.size && thread->signature != SIGNATURE_RESIZE)
		send_thread(&event, thread);
}

/*
 * The same function starts at the same depth again: a new call, not a tail call. Without cookies, all
 * functions with one signature look like the first one, and only the place of the probe differs.
 */
static __always_inline bool is_anew(struct pt_regs *ctx, struct thread *thread, u64 sp, u64 cookie)
{
#ifndef HEAP_COOKIE
	if (thread->place != INSTRUCTION_POINTER(ctx))
		return false;
#endif
	return sp == thread->sp && thread->function == COOKIE_FUNCTION(cookie) &&
	       thread->signature == COOKIE_SIGNATURE(cookie);
}

/* An exception has left the pending operator new: its return address was overwritten. */
static __always_inline bool has_thrown(struct pt_regs *ctx, struct thread *thread)
{
	return thread->signature == SIGNATURE_NEW &&
	       return_address_of(ctx, thread->sp, thread->caller) != thread->caller;
}

static __always_inline bool is_stale(struct thread *thread)
{
	u64 now = bpf_ktime_get_ns();

	if (!thread->nested_ns)
		thread->nested_ns = now;
	return now - thread->nested_ns >= STALE_NS;
}

/* The pending call will never return. */
static __always_inline void abandon_call(struct thread *thread)
{
	if (thread->nested)
		count_losses(thread->tgid, LOSS_HEAP_CALL_ABANDONED, thread->nested);
	thread->sp = 0;
	if (thread->signature == SIGNATURE_NEW)
		allocation_failed(thread);
}

static __always_inline bool is_nested(struct pt_regs *ctx, struct thread *thread, u64 cookie, u64 sp)
{
	if (!thread->sp)
		return false;
	if (sp > thread->sp || is_anew(ctx, thread, sp, cookie) || has_thrown(ctx, thread) ||
	    is_stale(thread)) {
		abandon_call(thread);
		return false;
	}
	thread->nested++;
	return true;
}

static __always_inline void note_call(u64 cookie)
{
	u32 file = COOKIE_FILE(cookie);
	u8 *called = called_files.lookup(&file);

	if (called && !*called)
		*called = 1;
}

static __always_inline int heap_enter(struct pt_regs *ctx, u64 cookie)
{
	struct thread *thread = current_thread();
	u8 signature = COOKIE_SIGNATURE(cookie), function = COOKIE_FUNCTION(cookie);
	u64 sp = STACK_POINTER(ctx) + COOKIE_PUSHED(cookie) * sizeof(u64), pointer;
	struct arguments arguments;

	keep_entry_to_kernel_stack(ctx);
	if (!thread)
		return 0;
#ifdef HEAP_COOKIE
	note_call(cookie);
#endif
	if (is_nested(ctx, thread, cookie, sp))
		return 0;
	arguments = arguments_of(ctx, cookie);
	if (is_one_of(signature, ANY_FREE)) {
		pointer = signature == SIGNATURE_HEAP_FREE ? arguments.value[1] : arguments.value[0];
		if (!is_repeated(thread, ctx, pointer))
			send_release(thread, EVENT_FREE, pointer, function);
		return 0;
	}
	thread->released.pointer = 0;
	take_arguments(&arguments, thread, signature);
	thread->function = function;
	thread->signature = signature;
	thread->nested = 0;
	thread->nested_ns = 0;
#ifndef HEAP_COOKIE
	thread->place = INSTRUCTION_POINTER(ctx);
#endif
	thread->sp = sp;
	if (signature == SIGNATURE_NEW)
		thread->caller = return_address_of(ctx, sp, 0);
	if (is_realloc(signature))
		send_release(thread, EVENT_REALLOC_RELEASE, thread->pointer, function);
	return 0;
}

#ifdef HEAP_STACKS
#include "heap_stack.bpf.c"
#endif

/* The outermost call ends. `entry_sp`: at its entry; `caller`: its return address. */
static __always_inline int heap_leave(struct pt_regs *ctx, u64 entry_sp, u64 caller, u64 result)
{
	u32 tid = bpf_get_current_pid_tgid();
	struct thread *thread = threads.lookup(&tid);
	struct kwatch_heap event = { .type = EVENT_ALLOC, .address = result };

	keep_to_kernel_stack(ctx);
	if (!thread || thread->sp != entry_sp)
		return LEAVE_RETURN;
	thread->sp = 0;
	if (!read_result(thread, &event.address)) {
		count_loss(thread->tgid, LOSS_RESULT_UNREADABLE);
		return LEAVE_RETURN;
	}
	if (!event.address) {
		allocation_failed(thread);
		return LEAVE_RETURN;
	}
	event.size = thread->size;
	if (event.size < MIN_SIZE || event.size > MAX_SIZE)
		return LEAVE_RETURN;
	event.function = thread->function;
	event.stack = event.function + 1;
#ifdef HEAP_STACKS
	take_heap_stack(ctx, thread, &event, RETURN_PC(caller), CALLER_STACK_POINTER(entry_sp));
#endif
	send_thread(&event, thread);
	return LEAVE_RETURN;
}

int heap_return(struct pt_regs *ctx)
{
#ifdef UPROBE_SESSIONS
	if (!(u8)session_is_return())
		return may_catch_return(ctx);
#endif
	return heap_leave(ctx, ENTRY_STACK_POINTER(ctx), INSTRUCTION_POINTER(ctx), RESULT(ctx));
}

/*
 * At a ret instruction. A uretprobe would replace the return address by the kernel's trampoline. An
 * exception that leaves operator new would find no frame there and end the program, and allocators
 * that look at their caller would see the trampoline. The cookie is 1 at a jump to memset or memcpy,
 * which return their first argument.
 */
int heap_exit(struct pt_regs *ctx)
{
	u64 result = RESULT(ctx);

#ifdef HEAP_COOKIE
	if (bpf_get_attach_cookie(ctx))
		result = ARG0(ctx);
#endif
	return heap_leave(ctx, STACK_POINTER(ctx), RETURN_ADDRESS(ctx), result);
}

/*
 * The thread ends. A pending call with nested calls was left by an exception, whose own allocation
 * was nested in it; without nested calls, the thread was killed during the call.
 */
static __always_inline void end_thread(u32 tid)
{
	struct thread *thread = threads.lookup(&tid);

	if (thread && thread->sp && thread->nested)
		abandon_call(thread);
	threads.delete(&tid);
}

#ifdef HEAP_COOKIE

int heap_entry(struct pt_regs *ctx)
{
	return heap_enter(ctx, bpf_get_attach_cookie(ctx));
}

#else /* no attach cookies: one program for each signature, which reports its first function */

#define ENTRY_COOKIE(kind) (FIRST_##kind | SIGNATURE_##kind << COOKIE_SIGNATURE_SHIFT)
#define ENTRY_PROGRAM(name, kind)                            \
	int heap_##name(struct pt_regs *ctx)                  \
	{                                                     \
		return heap_enter(ctx, ENTRY_COOKIE(kind));   \
	}

ENTRY_PROGRAM(malloc, MALLOC)
ENTRY_PROGRAM(calloc, CALLOC)
ENTRY_PROGRAM(realloc, REALLOC)
ENTRY_PROGRAM(reallocarray, REALLOCARRAY)
ENTRY_PROGRAM(aligned, ALIGNED)
ENTRY_PROGRAM(posix_memalign, POSIX_MEMALIGN)
ENTRY_PROGRAM(free, FREE)
ENTRY_PROGRAM(delete, DELETE)
ENTRY_PROGRAM(new, NEW)
ENTRY_PROGRAM(reallocf, REALLOCF)
ENTRY_PROGRAM(resize, RESIZE)
ENTRY_PROGRAM(heap_calloc, HEAP_CALLOC)
ENTRY_PROGRAM(heap_realloc, HEAP_REALLOC)
ENTRY_PROGRAM(heap_reallocf, HEAP_REALLOCF)
ENTRY_PROGRAM(heap_reallocarray, HEAP_REALLOCARRAY)
ENTRY_PROGRAM(heap_aligned, HEAP_ALIGNED)
ENTRY_PROGRAM(heap_free, HEAP_FREE)
ENTRY_PROGRAM(method_realloc, METHOD_REALLOC)

#endif
