// build: -g -O0 -std=c++17 -pthread -w
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Misuses of the heap, numbered, in the manner of Juliet (https://samate.nist.gov/SARD/test-suites):
 * CWE-415 (double free), 590 (free of memory that is not on the heap), 761 (free of an address inside
 * a block) and 762 (mismatched functions). Each has a good twin.
 *
 * misuses CASE bad|good does one of them; `misuses all bad|good` does all, one after another, for a
 * tool under which none ends the program. `misuses list` names the cases.
 */
#include "answers.h"

#include <cstdint>
#include <new>
#include <sys/mman.h>
#include <thread>

static const size_t PLAIN = 64, LARGE = 100003, HUGE_BLOCK = 1 << 20;
static const std::align_val_t ALIGNED{64};

struct item {
	char bytes[72];
};

static char static_buffer[256];

/* Not inlined, so that the stacks tell the calls apart. */
NOINLINE static void first_free(void *p) { free(p); }
NOINLINE static void second_free(void *p) { free(p); }
NOINLINE static char *allocate(size_t size) { return (char *)memset(malloc(size), 1, size); }

/* CWE-415 */
NOINLINE static void twice(bool bad)
{
	char *p = allocate(PLAIN);

	first_free(p);
	if (bad)
		second_free(p);
}

NOINLINE static void twice_with_others_between(bool bad)
{
	void *cached[7], *a, *b;

	for (void *&each : cached)
		each = malloc(PLAIN);
	a = allocate(PLAIN);
	b = allocate(PLAIN);
	for (void *each : cached)
		free(each);
	first_free(a);
	first_free(b);
	if (bad)
		second_free(a); /* glibc does not notice: its list begins with b */
}

NOINLINE static void twice_in_another_thread(bool bad)
{
	char *p = allocate(PLAIN);

	first_free(p);
	std::thread([=] {
		if (bad)
			second_free(p);
	}).join();
}

NOINLINE static void realloc_of_freed(bool bad)
{
	char *p = allocate(PLAIN), *moved;

	if (bad)
		first_free(p);
	moved = (char *)realloc(p, LARGE);
	if (!bad)
		first_free(moved);
}

NOINLINE static void old_pointer_after_realloc(bool bad)
{
	char *p = allocate(PLAIN), *guard = allocate(PLAIN);
	char *moved = (char *)realloc(p, LARGE);

	second_free(bad ? p : moved);
	free(guard);
}

NOINLINE static void large_twice(bool bad)
{
	char *p = allocate(LARGE), *guard = allocate(PLAIN);

	first_free(p);
	if (bad)
		second_free(p);
	free(guard);
}

NOINLINE static void mapped_twice(bool bad)
{
	char *p = allocate(HUGE_BLOCK);

	first_free(p);
	if (bad)
		second_free(p);
}

NOINLINE static void delete_twice(bool bad)
{
	item *p = new item;

	delete p;
	if (bad)
		delete p;
}

NOINLINE static void delete_array_twice(bool bad)
{
	int *p = new int[50];

	delete[] p;
	if (bad)
		delete[] p;
}

NOINLINE static void twice_with_the_key_overwritten(bool bad)
{
	char *p = allocate(PLAIN);

	first_free(p);
	if (bad) {
		memset(p + 8, 1, 8); /* by which glibc knows what is in its cache */
		second_free(p);
	}
}

NOINLINE static void on_the_way_out(bool bad)
{
	char *p = (char *)calloc(3, PLAIN);
	bool failed = p[0] == 0;

	if (failed)
		first_free(p);
	if (bad || !failed)
		second_free(p);
}

NOINLINE static void aligned_twice(bool bad)
{
	void *p = aligned_alloc(256, 512);

	first_free(p);
	if (bad)
		second_free(p);
}

NOINLINE static void realloc_to_nothing(bool bad)
{
	char *p = allocate(PLAIN);
	void *volatile rest = realloc(p, 0);

	if (bad)
		second_free(p);
}

NOINLINE static void delete_and_free(bool bad)
{
	item *p = new item;

	delete p;
	if (bad)
		second_free(p);
}

NOINLINE static void delete_in_two_threads(bool bad)
{
	item *p = new item;

	std::thread([=] { delete p; }).join();
	if (bad)
		delete p;
}

/* CWE-590 */
NOINLINE static void of_the_stack(bool bad)
{
	char buffer[256];
	char *p = bad ? buffer + 32 : allocate(PLAIN);

	p = (char *)((uintptr_t)p & ~(uintptr_t)15);
	first_free(p);
}

NOINLINE static void of_static_data(bool bad)
{
	first_free(bad ? static_buffer + 16 : allocate(PLAIN));
}

NOINLINE static void of_mapped_memory(bool bad)
{
	void *pages = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	first_free(bad ? (char *)pages + 4096 : allocate(PLAIN));
	munmap(pages, 65536);
}

NOINLINE static void of_alloca(bool bad)
{
	char *p = bad ? (char *)memset(__builtin_alloca(256), 0, 256) + 64 : allocate(PLAIN);

	first_free((char *)((uintptr_t)p & ~(uintptr_t)15));
}

NOINLINE static void of_a_literal(bool bad)
{
	first_free(bad ? (void *)"a literal, which is in the program's read-only data" : malloc(9));
}

NOINLINE static void realloc_of_the_stack(bool bad)
{
	char buffer[256] = {};
	void *p = bad ? (char *)((uintptr_t)(buffer + 64) & ~(uintptr_t)15) : allocate(PLAIN);

	first_free(realloc(p, LARGE));
}

NOINLINE static void delete_of_the_stack(bool bad)
{
	item local;
	item *volatile p = bad ? &local : new item;

	delete p;
}

NOINLINE static void of_a_fake_chunk(bool bad)
{
	alignas(16) uint64_t words[32] = {};

	words[1] = words[9] = 0x41; /* what glibc takes for the sizes of two chunks */
	first_free(bad ? (void *)(words + 2) : allocate(PLAIN));
}

NOINLINE static void of_a_threads_stack(bool bad)
{
	std::thread([=] {
		alignas(16) char buffer[256] = {};

		first_free(bad ? buffer + 64 : allocate(PLAIN));
	}).join();
}

/* CWE-761 */
NOINLINE static void inside(bool bad)
{
	char *p = allocate(PLAIN);

	first_free(bad ? p + 16 : p);
}

NOINLINE static void after_a_search(bool bad)
{
	char *start = strdup("find the letter"), *p = start;

	while (*p && *p != 'l')
		p++;
	first_free(bad ? p : start);
}

NOINLINE static void delete_inside(bool bad)
{
	item *p = new item[10];

	delete[] (bad ? p + 2 : p);
}

NOINLINE static void with_a_fake_size_in_the_data(bool bad)
{
	uint64_t *p = (uint64_t *)calloc(1, 512);

	p[1] = p[9] = 0x41;
	first_free(bad ? p + 2 : p);
}

NOINLINE static void realloc_inside(bool bad)
{
	char *p = allocate(PLAIN);

	first_free(realloc(bad ? p + 32 : p, LARGE));
}

NOINLINE static void inside_in_another_thread(bool bad)
{
	char *p = allocate(LARGE);

	std::thread([=] { first_free(bad ? p + 4096 : p); }).join();
}

NOINLINE static void inside_a_mapped_block(bool bad)
{
	char *p = allocate(HUGE_BLOCK);

	first_free(bad ? p + 8192 : p);
}

/* CWE-762 */
NOINLINE static void new_free(bool bad)
{
	item *p = new item;

	if (bad)
		free(p);
	else
		delete p;
}

NOINLINE static void new_array_free(bool bad)
{
	int *p = new int[10];

	if (bad)
		free(p);
	else
		delete[] p;
}

NOINLINE static void malloc_delete(bool bad)
{
	item *p = bad ? (item *)malloc(sizeof(item)) : new item;

	delete p;
}

NOINLINE static void malloc_delete_array(bool bad)
{
	char *p = bad ? (char *)malloc(PLAIN) : new char[PLAIN];

	delete[] p;
}

NOINLINE static void new_delete_array(bool bad)
{
	char *p = new char;

	if (bad)
		delete[] p;
	else
		delete p;
}

NOINLINE static void new_array_delete(bool bad)
{
	char *p = new char[PLAIN];

	if (bad)
		delete p;
	else
		delete[] p;
}

NOINLINE static void new_realloc(bool bad)
{
	free(realloc(bad ? operator new(PLAIN) : malloc(PLAIN), LARGE));
}

NOINLINE static void calloc_delete(bool bad)
{
	void *p = calloc(4, PLAIN);

	if (bad)
		operator delete(p);
	else
		free(p);
}

NOINLINE static void strdup_delete_array(bool bad)
{
	char *p = strdup("a string of the C library");

	if (bad)
		delete[] p;
	else
		free(p);
}

NOINLINE static void realloc_delete(bool bad)
{
	void *p = realloc(malloc(PLAIN), LARGE);

	if (bad)
		operator delete(p);
	else
		free(p);
}

NOINLINE static void aligned_new_free(bool bad)
{
	void *p = operator new(PLAIN, ALIGNED);

	if (bad)
		free(p);
	else
		operator delete(p, ALIGNED);
}

NOINLINE static void aligned_new_delete(bool bad)
{
	void *p = operator new(PLAIN, ALIGNED);

	if (bad)
		operator delete(p);
	else
		operator delete(p, ALIGNED);
}

NOINLINE static void nothrow_new_free(bool bad)
{
	item *p = new (std::nothrow) item;

	if (bad)
		free(p);
	else
		delete p;
}

NOINLINE static void new_array_sized_delete(bool bad)
{
	void *p = bad ? operator new[](PLAIN) : operator new(PLAIN);

	operator delete(p, PLAIN);
}

NOINLINE static void aligned_alloc_delete(bool bad)
{
	void *p = aligned_alloc(64, PLAIN);

	if (bad)
		operator delete(p);
	else
		free(p);
}

NOINLINE static void malloc_delete_in_another_thread(bool bad)
{
	item *p = bad ? (item *)malloc(sizeof(item)) : new item;

	std::thread([=] { delete p; }).join();
}

static const struct {
	const char *name;
	int cwe;
	void (*run)(bool bad);
} CASES[] = {
#define CASE(cwe, name) { #name, cwe, name }
	CASE(415, twice),
	CASE(415, twice_with_others_between),
	CASE(415, twice_in_another_thread),
	CASE(415, realloc_of_freed),
	CASE(415, old_pointer_after_realloc),
	CASE(415, large_twice),
	CASE(415, mapped_twice),
	CASE(415, delete_twice),
	CASE(415, delete_array_twice),
	CASE(415, twice_with_the_key_overwritten),
	CASE(415, on_the_way_out),
	CASE(415, aligned_twice),
	CASE(415, realloc_to_nothing),
	CASE(415, delete_and_free),
	CASE(415, delete_in_two_threads),
	CASE(590, of_the_stack),
	CASE(590, of_static_data),
	CASE(590, of_mapped_memory),
	CASE(590, of_alloca),
	CASE(590, of_a_literal),
	CASE(590, realloc_of_the_stack),
	CASE(590, delete_of_the_stack),
	CASE(590, of_a_fake_chunk),
	CASE(590, of_a_threads_stack),
	CASE(761, inside),
	CASE(761, after_a_search),
	CASE(761, delete_inside),
	CASE(761, with_a_fake_size_in_the_data),
	CASE(761, realloc_inside),
	CASE(761, inside_in_another_thread),
	CASE(761, inside_a_mapped_block),
	CASE(762, new_free),
	CASE(762, new_array_free),
	CASE(762, malloc_delete),
	CASE(762, malloc_delete_array),
	CASE(762, new_delete_array),
	CASE(762, new_array_delete),
	CASE(762, new_realloc),
	CASE(762, calloc_delete),
	CASE(762, strdup_delete_array),
	CASE(762, realloc_delete),
	CASE(762, aligned_new_free),
	CASE(762, aligned_new_delete),
	CASE(762, nothrow_new_free),
	CASE(762, new_array_sized_delete),
	CASE(762, aligned_alloc_delete),
	CASE(762, malloc_delete_in_another_thread),
};

int main(int argc, char **argv)
{
	const char *wanted = argc > 1 ? argv[1] : "list";
	bool all = !strcmp(wanted, "all"), bad = argc > 2 && !strcmp(argv[2], "bad");

	if (!strcmp(wanted, "list")) {
		for (auto &each : CASES)
			printf("%d %s\n", each.cwe, each.name);
		return 0;
	}
	if (!all)
		stage("ready");
	for (auto &each : CASES) {
		if (all)
			dprintf(STDERR_FILENO, "case %s\n", each.name);
		if (all || !strcmp(wanted, each.name))
			each.run(bad);
	}
	return 0;
}
