// build: -O1 -g -D_GNU_SOURCE
// SPDX-License-Identifier: Apache-2.0
/*
 * Blocks held from one place each: sections of the program, the stack of main, memory of every kind
 * of mapping, the C library's own tables, or only from where no memory of the process holds them.
 */
#include <alloca.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>

#include "blocks.h"

#define PAGES 16384
#define WORD 77 /* of the memory that holds the pointer */

static void *volatile in_data = (void *)1;
static void *volatile in_bss;
static void *volatile *on_stack;
static void *volatile *on_alloca;
static char **arguments;
static void **readonly_page;

static void program_sections(void)
{
	static void *volatile in_function;

	in_data = BLOCK("data", 40, REACHABLE);
	in_bss = BLOCK("bss", 40, REACHABLE);
	in_function = BLOCK("static-in-function", 40, REACHABLE);
	(void)in_function;
}

static void stack_of_main(void)
{
	on_stack[0] = BLOCK("stack-of-main", 40, REACHABLE);
	on_stack[1] = (char *)BLOCK("stack-of-main-interior", 40, POSSIBLE) + 8;
	on_alloca[2] = BLOCK("alloca", 40, REACHABLE);
}

static void argument_vector(void)
{
	arguments[0] = BLOCK("argv", 40, REACHABLE);
}

static void environment(void)
{
	char *variable = BLOCK("putenv", 40, REACHABLE);

	strcpy(variable, "KWATCH_TEST=1");
	putenv(variable);
}

static void bytes_in_stdio(void)
{
	FILE *file = fopen("/dev/null", "w");
	void *block = BLOCK("stdio-buffer-content", 40, REACHABLE);

	fwrite(&block, sizeof(block), 1, file);
}

static void buffer_of_stdio(void)
{
	FILE *file = fopen("/dev/null", "w");

	setvbuf(file, BLOCK("setvbuf", 4096, REACHABLE), _IOFBF, 4096);
}

static char *line_held;

static void lines(void)
{
	FILE *file = fopen("/proc/self/maps", "r");
	char *lost = NULL;
	size_t room = 0;

	if (getline(&line_held, &room, file) > 0)
		noted(line_held, "getline-held", room, REACHABLE);
	room = 0;
	if (getline(&lost, &room, file) > 0)
		noted(lost, "getline-lost", room, DEFINITE);
	fclose(file);
}

static void at_the_end(int status, void *argument)
{
	(void)status, (void)argument;
}

static void exit_functions(void)
{
	on_exit(at_the_end, BLOCK("on-exit-argument", 40, REACHABLE));
}

static void **mapped(int protection, int flags, int file)
{
	void **memory = mmap(NULL, PAGES, protection, flags, file, 0);

	if (memory == MAP_FAILED)
		_exit(114);
	return memory;
}

#define READ_WRITE (PROT_READ | PROT_WRITE)

static void anonymous_memory(void)
{
	mapped(READ_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1)[WORD] =
		BLOCK("anonymous-private", 40, REACHABLE);
	mapped(READ_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1)[WORD] =
		BLOCK("anonymous-shared", 40, REACHABLE);
}

/* Memory that the program takes itself from between two pieces of the C library's heap. */
static void own_break(void)
{
	void **memory = sbrk(PAGES);
	void *beyond[4];

	if (memory == (void **)-1)
		_exit(121);
	memory[WORD] = BLOCK("own-break", 40, REACHABLE);
	for (int i = 0; i < 4; i++)
		beyond[i] = BLOCK("beyond-own-break", 100000, i % 2 ? REACHABLE : DEFINITE);
	memory[WORD + 1] = beyond[1];
	memory[WORD + 3] = beyond[3];
}

#define HUGE_PAGE (2 << 20)

static void huge_page(void)
{
	char *memory = mmap(NULL, 2 * HUGE_PAGE, READ_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	memory += HUGE_PAGE - (uintptr_t)memory % HUGE_PAGE;
	madvise(memory, HUGE_PAGE, MADV_HUGEPAGE);
	((void **)memory)[100 * WORD] = BLOCK("huge-page", 40, REACHABLE);
}

static int memory_file(const char *name)
{
	int file = memfd_create(name, MFD_CLOEXEC);

	if (file < 0 || ftruncate(file, PAGES))
		_exit(115);
	return file;
}

static void file_memory(void)
{
	mapped(READ_WRITE, MAP_PRIVATE, memory_file("private"))[WORD] =
		BLOCK("file-private", 40, REACHABLE);
	mapped(READ_WRITE, MAP_SHARED, memory_file("shared"))[WORD] =
		BLOCK("file-shared", 40, REACHABLE);
}

static void posix_shared_memory(void)
{
	char name[64];
	int file;

	snprintf(name, sizeof(name), "/kwatch-test-%d", (int)getpid());
	file = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
	if (file < 0 || ftruncate(file, PAGES))
		_exit(116);
	shm_unlink(name);
	mapped(READ_WRITE, MAP_SHARED, file)[WORD] = BLOCK("shm-open", 40, REACHABLE);
}

static void system_v_memory(void)
{
	int segment = shmget(IPC_PRIVATE, PAGES, IPC_CREAT | 0600);
	void **memory = shmat(segment, NULL, 0);

	shmctl(segment, IPC_RMID, NULL);
	if (memory == (void **)-1)
		_exit(117);
	memory[WORD] = BLOCK("system-v", 40, REACHABLE);
}

/* valgrind reads only memory that can be read and written: for it, these are definitely lost. */
static void protected_memory(void)
{
	void **memory = mapped(READ_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);

	memory[WORD] = BLOCK("read-only", 40, REACHABLE);
	mprotect(memory, PAGES, PROT_READ);
	readonly_page = memory;
	memory = mapped(READ_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	memory[WORD] = BLOCK("no-access", 40, REACHABLE);
	mprotect(memory, PAGES, PROT_NONE);
}

/* Shared memory that the process has mapped, but written through its descriptor only. */
static void untouched_memory(void)
{
	int file = memory_file("untouched");
	void *block = BLOCK("shared-untouched", 40, REACHABLE);

	if (pwrite(file, &block, sizeof(block), WORD * sizeof(block)) < 0)
		_exit(118);
	mapped(READ_WRITE, MAP_SHARED, file);
}

static void dropped_memory(void)
{
	void **memory = mapped(READ_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);

	memory[WORD] = BLOCK("madvise-dontneed", 40, DEFINITE);
	madvise(memory, PAGES, MADV_DONTNEED);
	memory = mapped(READ_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	memory[WORD] = BLOCK("unmapped", 40, DEFINITE);
	munmap(memory, PAGES);
}

static void only_epoll(void)
{
	struct epoll_event event = {.events = EPOLLIN};

	event.data.ptr = BLOCK("epoll-only", 40, REACHABLE);
	epoll_ctl(epoll_create1(0), EPOLL_CTL_ADD, STDIN_FILENO, &event);
}

static void only_a_signal_stack(void)
{
	stack_t stack = {.ss_size = 1 << 16};

	stack.ss_sp = BLOCK("signal-stack-only", 1 << 16, REACHABLE);
	sigaltstack(&stack, NULL);
}

static void only_a_pipe(void)
{
	int ends[2];
	void *block = BLOCK("pipe-only", 40, DEFINITE);

	if (pipe(ends) || write(ends[1], &block, sizeof(block)) < 0)
		_exit(119);
}

static void only_a_file(void)
{
	void *block = BLOCK("file-only", 40, DEFINITE);

	if (write(memory_file("only"), &block, sizeof(block)) < 0)
		_exit(120);
}

static const struct reach_case cases[] = {
	CASE(program_sections),
	CASE(stack_of_main),
	CASE(argument_vector),
	CASE(environment),
	CASE(bytes_in_stdio),
	CASE(buffer_of_stdio),
	CASE(lines),
	CASE(exit_functions),
	CASE(anonymous_memory),
	CASE(own_break),
	CASE(huge_page),
	CASE(file_memory),
	CASE(posix_shared_memory),
	CASE(system_v_memory),
	CASE(protected_memory),
	CASE(untouched_memory),
	CASE(dropped_memory),
	CASE(only_epoll),
	CASE(only_a_signal_stack),
	CASE(only_a_pipe),
	CASE(only_a_file),
};

int main(int argc, char **argv)
{
	void *volatile words[8] = {NULL};

	on_stack = words;
	on_alloca = memset(alloca(64), 0, 64);
	arguments = argv;
	return run_cases(argc, argv, cases, sizeof(cases) / sizeof(*cases));
}
