/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks with names and a known class: definitely, indirectly or possibly lost, or reachable, as
 * valgrind defines them. A program is a table of cases; without arguments it runs all of them, else
 * those that the arguments name. Then it prints `block NAME ADDRESS SIZE CLASS` for each block and
 * waits. With `fork`, a child of it waits, whose pid it prints.
 *
 * Nothing but what a case says may hold a block: the table has the complements of the addresses, and
 * `forget` overwrites what finished calls have left in registers and on the stack.
 */
#ifndef BLOCKS_H
#define BLOCKS_H

#include <signal.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "answers.h"

enum class_of_block { REACHABLE, POSSIBLE, INDIRECT, DEFINITE };

struct named_block {
	const char *name;
	uintptr_t complement;
	size_t size;
	enum class_of_block expected;
};

struct reach_case {
	const char *name;
	void (*run)(void);
};

#define MAX_BLOCKS 512

static struct named_block named[MAX_BLOCKS];
static int named_count;

#define CASE(name)	\
	{		\
		#name, name \
	}

/* Allocates a cleared block that the case expects to be of a class. Each use has its own line. */
#define BLOCK(name, size, expected) cleared(noted(malloc(size), name, size, expected), size)

static inline void *cleared(void *block, size_t size)
{
	return memset(block, 0, size);
}

NOINLINE static void *noted(void *block, const char *name, size_t size, enum class_of_block expected)
{
	int i = __atomic_fetch_add(&named_count, 1, __ATOMIC_RELAXED);

	if (!block || i >= MAX_BLOCKS)
		_exit(113);
	named[i] = (struct named_block){name, ~(uintptr_t)block, size, expected};
	return block;
}

/* What valgrind reports for a cycle: its lowest address is definitely lost, the rest indirectly. */
NOINLINE __attribute__((unused)) static void expect_cycle(void *const *blocks, int count)
{
	void *lowest = blocks[0];

	for (int i = 1; i < count; i++)
		lowest = blocks[i] < lowest ? blocks[i] : lowest;
	for (int i = 0; i < named_count; i++)
		for (int j = 0; j < count; j++)
			if (named[i].complement == ~(uintptr_t)blocks[j])
				named[i].expected = blocks[j] == lowest ? DEFINITE : INDIRECT;
}

#if defined(__x86_64__)
#define ZERO_REGISTERS                                                                               \
	__asm__ volatile("xor %%eax, %%eax\n xor %%ecx, %%ecx\n xor %%edx, %%edx\n"                  \
			 "xor %%esi, %%esi\n xor %%edi, %%edi\n xor %%r8d, %%r8d\n"                  \
			 "xor %%r9d, %%r9d\n xor %%r10d, %%r10d\n xor %%r11d, %%r11d"                \
			 ::: "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory")
#elif defined(__aarch64__)
#define ZERO_REGISTERS                                                                               \
	__asm__ volatile("mov x0, 0\n mov x1, 0\n mov x2, 0\n mov x3, 0\n mov x4, 0\n mov x5, 0\n"   \
			 "mov x6, 0\n mov x7, 0\n mov x8, 0\n mov x9, 0\n mov x10, 0\n mov x11, 0\n" \
			 "mov x12, 0\n mov x13, 0\n mov x14, 0\n mov x15, 0\n mov x16, 0\n"          \
			 "mov x17, 0" ::                                                             \
				 : "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9",       \
				   "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17", "memory")
#endif

#define FORGOTTEN_STACK 32768

/* Overwrites the stack of the calls before and the registers that calls need not preserve. */
NOINLINE static void forget(void)
{
	volatile char stack[FORGOTTEN_STACK];

	for (size_t i = 0; i < sizeof(stack); i++)
		stack[i] = 0;
	ZERO_REGISTERS;
}

NOINLINE static void print_block(const struct named_block *block)
{
	static const char *const classes[] = {"reachable", "possible", "indirect", "definite"};
	char line[160];

	say(line, snprintf(line, sizeof(line), "block %s %#lx %zu %s\n", block->name,
			   (unsigned long)~block->complement, block->size, classes[block->expected]));
}

static int wanted(int argc, char **argv, const char *name)
{
	int words = 0;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], name))
			return 1;
		words += strcmp(argv[i], "now") && strcmp(argv[i], "fork");
	}
	return words == 0;
}

/* The child has what the parent has; the parent waits for it. */
NOINLINE __attribute__((unused)) static void continue_in_child(void)
{
	int parent = getpid(), child = fork();

	if (child < 0)
		_exit(122);
	if (child > 0) {
		waitpid(child, NULL, 0);
		_exit(0);
	}
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent)
		_exit(123);
	answer("child", getpid());
}

/* `ready`, the cases, the blocks, `done`. */
__attribute__((unused)) static int run_cases(int argc, char **argv, const struct reach_case *cases,
					     int count)
{
	parse_now(argc, argv);
	stage("ready");
	for (int i = 0; i < count; i++)
		if (wanted(argc, argv, cases[i].name)) {
			cases[i].run();
			forget();
		}
	for (int i = 0; i < named_count; i++)
		print_block(&named[i]);
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], "fork"))
			continue_in_child();
	forget();
	stage("done");
	return 0;
}

#endif
