// build: -O2 -g -fno-optimize-sibling-calls
// SPDX-License-Identifier: Apache-2.0
/*
 * Leaks blocks below `bare`, a function without unwind information. Its frame pointer leads, in
 * turn, nowhere; to a frame in the function `landing` that is the outermost, or that itself leads
 * nowhere; or to words that look like a frame but are no return address. The rest of the stack is
 * the same each time; the block's size tells the cases apart. `handle` is like the last case:
 * nothing calls it.
 */
#include <signal.h>
#include <stdint.h>

#include "answers.h"

#define TURNS 101
#define NOWHERE 1

enum {
	NO_FRAME_SIZE = 5003,
	LAST_FRAME_SIZE = 7001,
	BROKEN_FRAME_SIZE = 9001,
	FALSE_FRAME_SIZE = 11003,
	HANDLER_SIZE = 13001, /* also written in the assembly of `handle` */
};

struct frame {
	uintptr_t caller;
	const void *pc;
};

void *bare(size_t size, uintptr_t frame_pointer);
void handle(int number);
extern const char landed[];

/* A gap that is small enough to be padding is covered by the unwind information before it. */
#define FUNCTION(name, ...) \
	".balign 64\n.globl " name "\n.type " name ", %function\n" name ":\n" __VA_ARGS__ \
	".size " name ", . - " name "\n.skip 64\n"

asm(".text\n"
#if defined(__x86_64__)
    FUNCTION("bare", "push %rbp\nmov %rsi, %rbp\ncall malloc\npop %rbp\nret\n")
    FUNCTION("landing", "call malloc\nlanded: nop\nnop\nnop\nnop\nret\n")
    FUNCTION("handle", "push %rbp\nmov %rsp, %rbp\nmov $13001, %edi\ncall malloc\npop %rbp\nret\n")
#else
    FUNCTION("bare", "stp x29, x30, [sp, #-16]!\nmov x29, x1\nbl malloc\n"
		     "ldp x29, x30, [sp], #16\nret\n")
    FUNCTION("landing", "bl malloc\nlanded: nop\nnop\nnop\nnop\nret\n")
    FUNCTION("handle", "stp x29, x30, [sp, #-16]!\nmov x29, sp\nmov x0, #13001\nbl malloc\n"
		       "ldp x29, x30, [sp], #16\nret\n")
#endif
    );

static void *volatile sink;

NOINLINE static void take(size_t size, uintptr_t frame_pointer)
{
	sink = bare(size, frame_pointer);
}

int main(int argc, char **argv)
{
	volatile struct frame frame = { 0, landed }, false_frame = { 0, landed + 4 };

	parse_now(argc, argv);
	signal(SIGUSR1, handle);
	stage("ready");
	for (int i = 0; i < TURNS; i++) {
		take(NO_FRAME_SIZE, NOWHERE);
		frame.caller = 0;
		take(LAST_FRAME_SIZE, (uintptr_t)&frame);
		frame.caller = NOWHERE;
		take(BROKEN_FRAME_SIZE, (uintptr_t)&frame);
		take(FALSE_FRAME_SIZE, (uintptr_t)&false_frame);
		raise(SIGUSR1);
	}
	sink = NULL;
	answer("blocks", TURNS);
	answer("no_frame_size", NO_FRAME_SIZE);
	answer("last_frame_size", LAST_FRAME_SIZE);
	answer("broken_frame_size", BROKEN_FRAME_SIZE);
	answer("handler_size", HANDLER_SIZE);
	stage("done");
	return 0;
}
