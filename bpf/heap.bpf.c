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

/*
 * A session program (Linux 6.13) runs at the entry and at the return of a function, and decides at the
 * entry whether its return is caught: it is not after this result. Other programs ignore the result
 * of a return. Programs at ret instructions are sessions too, because tail calls do not cross attach
 * types. Programs that run at entries only are not: in a process that they do not trace, the kernel
 * would catch the returns, also of functions that throw (uprobe_multi_link_handler()).
 */
#ifdef UPROBE_SESSIONS
#define LEAVE_RETURN 1
#else
#define LEAVE_RETURN 0
#endif

#include "heap_arguments.h"

BPF_PROG_ARRAY(no_programs, 1);
BPF_PROG_ARRAY(no_entry_programs, 1); /* for programs of the other attach type: see heap_session.h */
BPF_ARRAY(called_files, u8, MAX_PROBED_FILES); /* by COOKIE_FILE: 1 after the first call */

#ifdef HEAP_STACKS
#include "release_stacks.h"
#endif
#ifdef CHECKS
#include "chunk_words.h"
#endif

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

/* The thread's first call since it began, or since its exec. False if it is not traced yet. */
static __always_inline bool begin_calls(struct slot *slot)
{
	struct thread *thread = &slot->thread;
	u32 owner = slot->owner ? slot->owner : slot->tgid;
	struct target *target = find_target(owner);

	if (!target || target->flags & TARGET_WAITING)
		return false;
	thread->mm_id = target->mm_id;
	thread->tgid = owner;
	thread->tid = slot->tid;
	return true;
}

/* Whether the owner of a shared heap still has it: not after its end or its exec. */
static __always_inline bool is_still_shared(struct thread *thread)
{
	struct target *owner = find_target(thread->tgid);

	return owner && owner->mm_id == thread->mm_id;
}

/* The slot of the current thread, if its heap is traced; otherwise NULL. */
static __always_inline struct slot *calling_slot(struct pt_regs *ctx)
{
	struct slot *slot = current_slot(stack_of_pointer(ctx));

	if (!slot)
		count_no_room();
	if (!slot || !slot->is_target || (!slot->thread.mm_id && !begin_calls(slot)))
		return NULL;
	return !slot->owner || is_still_shared(&slot->thread) ? slot : NULL;
}

/* The thread that is in an allocator call, or NULL. */
static __always_inline struct thread *pending_thread(struct pt_regs *ctx)
{
	struct slot *slot = find_slot(stack_of_pointer(ctx));

	return slot ? &slot->thread : NULL;
}

#include "shared_heap.h"

#include "heap_events.h"

#include "repeated_releases.h"

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

#include "pending_calls.h"

static __always_inline void note_call(u64 cookie)
{
	u32 file = COOKIE_FILE(cookie);
	u8 *called = called_files.lookup(&file);

	if (called && !*called)
		*called = 1;
}

/* At the entry of a function. */
static __always_inline u64 entry_stack_pointer(struct pt_regs *ctx, u64 cookie)
{
	return STACK_POINTER(ctx) + COOKIE_PUSHED(cookie) * sizeof(u64);
}

#ifdef CHECKS
/* Looks at what is released before the allocator does. */
static __always_inline void look_at_release(struct pt_regs *ctx, struct thread *thread, u64 pointer,
					    u64 cookie)
{
	thread->allocator = COOKIE_FILE(cookie);
	thread->return_address = return_address_of(ctx, entry_stack_pointer(ctx, cookie), 0);
	if (pointer)
		thread->chunk = look_at_block(STACK_POINTER(ctx), pointer);
}
#endif

static __always_inline void enter_free(struct pt_regs *ctx, struct thread *thread, u64 cookie)
{
	struct arguments arguments = arguments_of(ctx, cookie);
	u8 signature = COOKIE_SIGNATURE(cookie), function = COOKIE_FUNCTION(cookie);
	u64 pointer = arguments.value[signature == SIGNATURE_HEAP_FREE];

	if (is_repeated(thread, ctx, pointer, cookie))
		return;
#ifdef CHECKS
	look_at_release(ctx, thread, pointer, cookie);
#endif
#ifdef HEAP_STACKS
	if (wants_release_stack(thread, cookie))
		hand_over_release(ctx, thread, pointer, function, entry_stack_pointer(ctx, cookie));
#endif
	if (!end_young(thread, pointer, 0))
		send_release(thread, EVENT_FREE, pointer, function);
}

/* Of an allocation: its return will be seen. */
static __always_inline void begin_call_of(struct pt_regs *ctx, struct thread *thread, u64 cookie)
{
	struct arguments arguments = arguments_of(ctx, cookie);
	u8 signature = COOKIE_SIGNATURE(cookie), function = COOKIE_FUNCTION(cookie);
	u64 sp = entry_stack_pointer(ctx, cookie);

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
#ifdef CHECKS
	thread->allocator = COOKIE_FILE(cookie);
#endif
}

/* Which programs may unwind the stack of a release: those that the current one can call. */
enum release_programs {
	RELEASE_WITHOUT_STACK,
	RELEASE_AT_ENTRY,
	RELEASE_IN_SESSION,
};

/* A realloc releases its block before it allocates one. Returns only if nothing unwinds its stack. */
static __always_inline void release_by_realloc(struct pt_regs *ctx, struct thread *thread,
					       u64 cookie, enum release_programs programs)
{
	if (!is_realloc(COOKIE_SIGNATURE(cookie)))
		return;
	orphan_young(thread, thread->pointer);
#ifdef CHECKS
	look_at_release(ctx, thread, thread->pointer, cookie);
#endif
#ifdef FREE_STACKS
	if (thread->pointer && !COOKIE_PUSHED(cookie) && programs != RELEASE_WITHOUT_STACK)
		unwind_realloc(ctx, programs == RELEASE_AT_ENTRY);
#endif
	send_release(thread, EVENT_REALLOC_RELEASE, thread->pointer, thread->function);
	thread->owes_event = !!thread->pointer;
}

static __always_inline int heap_enter(struct pt_regs *ctx, u64 cookie)
{
	struct slot *slot = calling_slot(ctx);

	keep_entry_to_kernel_stack(ctx);
	if (!slot)
		return 0;
#ifdef HEAP_COOKIE
	note_call(cookie);
#endif
	if (is_nested(ctx, &slot->thread, cookie, entry_stack_pointer(ctx, cookie)))
		return 0;
	if (is_one_of(COOKIE_SIGNATURE(cookie), ANY_FREE)) {
		enter_free(ctx, &slot->thread, cookie);
	} else {
		begin_call_of(ctx, &slot->thread, cookie);
		release_by_realloc(ctx, &slot->thread, cookie, RELEASE_AT_ENTRY);
	}
	return 0;
}

#include "heap_session.h"

#ifdef HEAP_STACKS
#include "heap_stack.bpf.c"
#endif

/* The outermost call ends. `entry_sp`: at its entry; `caller`: its return address. */
static __always_inline int heap_leave(struct pt_regs *ctx, u64 entry_sp, u64 caller, u64 result)
{
	struct thread *thread = pending_thread(ctx);
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
#ifdef CHECKS
	event.allocator = thread->nested ? 0 : thread->allocator;
#endif
#ifdef HEAP_STACKS
	take_heap_stack(ctx, thread, &event, caller, entry_sp, false);
#endif
	begin_block(&event, thread);
	return LEAVE_RETURN;
}

int heap_return(struct pt_regs *ctx)
{
#ifdef UPROBE_SESSIONS
	if (!(u8)session_is_return())
		return enter_session(ctx);
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
static __always_inline void end_thread(struct thread *thread)
{
	if (thread->sp && thread->nested)
		abandon_call(thread);
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
