// build: -O1 -g -D_GNU_SOURCE
// SPDX-License-Identifier: Apache-2.0
/*
 * An own malloc that switches stacks: in a fiber, it goes to the main stack before it returns, as if
 * it waited for a lock there. The main stack, which is above, calls malloc meanwhile.
 */
#include <stdbool.h>
#include <stdint.h>
#include <ucontext.h>

#include "answers.h"

#define ROUNDS 31
#define SIZE 64

static char arena[1 << 20], stack[1 << 16];
static size_t used;
static bool waits;
static ucontext_t main_context, fiber;
static void *volatile sink;
static const void *caller;

NOINLINE void *malloc(size_t size)
{
	void *block = arena + used;

	used += (size + 15) & ~15UL;
	caller = __builtin_return_address(0);
	if (waits) {
		waits = false;
		swapcontext(&fiber, &main_context);
	}
	return block;
}

NOINLINE void free(void *block)
{
	*(volatile char *)block = 0;
}

static void run_fiber(void)
{
	for (;;) {
		waits = true;
		sink = malloc(2 * SIZE);
		swapcontext(&fiber, &main_context);
	}
}

int main(int argc, char **argv)
{
	long own_callers = 0;

	parse_now(argc, argv);
	getcontext(&fiber);
	fiber.uc_stack.ss_sp = stack;
	fiber.uc_stack.ss_size = sizeof(stack);
	makecontext(&fiber, run_fiber, 0);
	stage("ready");
	for (int i = 0; i < ROUNDS; i++) {
		swapcontext(&main_context, &fiber); /* until malloc waits */
		sink = malloc(SIZE);
		own_callers += (uintptr_t)caller >> 16 == (uintptr_t)main >> 16;
		swapcontext(&main_context, &fiber); /* malloc goes on and returns */
	}
	answer("rounds", ROUNDS);
	answer("size", SIZE);
	answer("own_callers", own_callers);
	stage("done");
	return 0;
}
