/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What system calls change in the memory of a process: mmap, munmap, mremap, brk; and prctl. */
#ifndef KWATCH_MEMORY_CALLS_H
#define KWATCH_MEMORY_CALLS_H

#define MREMAP_DONTUNMAP 4
#define PROT_EXEC 4
#define MAP_ANONYMOUS 0x20
#define PR_SET_SYSCALL_USER_DISPATCH 59

#if defined(HEAP) || defined(STACKS)
static __always_inline void send_memory(struct call_in_progress *call, u8 type, u64 address, u64 size)
{
#ifdef HEAP
	struct kwatch_heap event = {
		.type = type,
		.function = call->mapping,
		.address = address,
		.size = size,
	};

#ifdef HEAP_STACKS
	if (type == EVENT_MAP && !(call->mapping & (MAPPING_BY_ALLOCATOR | MAPPING_OF_FILE)))
		event.stack = call->stack;
#endif
	send_heap(&event, owner_of_memory(call->tgid), call->tid, &call->records);
#endif
}

static __always_inline bool is_mapping(u8 role)
{
	return role == MEMORY_MMAP || role == MEMORY_OLD_MMAP || role == MEMORY_MREMAP;
}

/* How the call will change the memory, if it makes a mapping. */
static __always_inline u8 mapping_flags(struct slot *slot)
{
	struct call_in_progress *call = &slot->call;
	u8 role = CALL_ROLE(call->flags), flags = 0;

	if (!is_mapping(role))
		return 0;
#ifdef HEAP
	if (slot->thread.sp)
		flags = MAPPING_BY_ALLOCATOR;
#endif
	if (role == MEMORY_MREMAP)
		return flags | MAPPING_MOVED;
	return call->arguments[3] & MAP_ANONYMOUS ? flags : flags | MAPPING_OF_FILE;
}

/* At once, before the call takes effect: kwatch then tells the user, or removes the return probes. */
static __always_inline void notice_dispatch(void *ctx, struct call_in_progress *call)
{
	struct kwatch_control event = {};

	if (call->arguments[0] != PR_SET_SYSCALL_USER_DISPATCH || !call->arguments[1])
		return;
	head(&event, EVENT_DISPATCH, call->tgid);
	send_control(ctx, &event, sizeof(event), call->tgid);
}

static __always_inline void memory_arguments(void *ctx, struct pt_regs *regs, struct slot *slot)
{
	struct call_in_progress *call = &slot->call;
	u32 values[4] = {};

	call_arguments(regs, call->abi, call->arguments);
	if (CALL_ROLE(call->flags) == MEMORY_PRCTL)
		notice_dispatch(ctx, call);
	if (CALL_ROLE(call->flags) == MEMORY_OLD_MMAP) {
		read_user(values, sizeof(values), (void *)call->arguments[0]);
#pragma unroll
		for (int i = 0; i < 4; i++)
			call->arguments[i] = values[i];
	}
	call->mapping = mapping_flags(slot);
}

/* Whether the program itself maps memory, which no allocator will give out. */
static __always_inline bool maps_for_itself(struct call_in_progress *call)
{
	u8 role = CALL_ROLE(call->flags);

	return call->flags & CALL_MEMORY && is_mapping(role) &&
	       !(call->mapping & (MAPPING_BY_ALLOCATOR | MAPPING_OF_FILE));
}

static __always_inline void unmapped(void *ctx, struct call_in_progress *call, u64 address, u64 size,
				     bool is_code)
{
#ifdef STACKS
	forget_code(ctx, owner_of_memory(call->tgid), address, size, is_code);
#endif
}

static __always_inline void memory_call(void *ctx, struct call_in_progress *call, s64 result)
{
	u64 *a = call->arguments;

	if (is_error(result))
		return;
	if (call->abi == ABI_I386 || call->abi == ABI_ARM)
		result = (u32)result; /* an address, which was sign-extended */
	switch (CALL_ROLE(call->flags)) {
	case MEMORY_MMAP:
	case MEMORY_OLD_MMAP:
		unmapped(ctx, call, result, a[1], a[2] & PROT_EXEC);
		send_memory(call, EVENT_MAP, result, a[1]);
		break;
	case MEMORY_MUNMAP:
		unmapped(ctx, call, a[0], a[1], false);
		send_memory(call, EVENT_UNMAP, a[0], a[1]);
		break;
	case MEMORY_MREMAP:
		unmapped(ctx, call, a[0], a[1], false);
		unmapped(ctx, call, result, a[2], false); /* MREMAP_FIXED replaces what was there */
		if (!(a[3] & MREMAP_DONTUNMAP))
			send_memory(call, EVENT_UNMAP, a[0], a[1]);
		send_memory(call, EVENT_MAP, result, a[2]);
		break;
	case MEMORY_BRK:
		send_memory(call, EVENT_BRK, result, 0);
		break;
	}
}
#else
static __always_inline void memory_arguments(void *ctx, struct pt_regs *regs, struct slot *slot)
{
}

static __always_inline void memory_call(void *ctx, struct call_in_progress *call, s64 result)
{
}
#endif

#endif
