// SPDX-License-Identifier: Apache-2.0
// What one mode of many does with its requests. `held` says what it holds for ever.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <locale.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static long held;

static void grow_buffer(void)
{
	static char *buffer;
	static size_t size = 1 << 20;

	size += 512;
	buffer = realloc(buffer, size);
	memset(buffer + size - 512, 1, 512);
	held = size;
}

static void map_more(void)
{
	char *mapped = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	memset(mapped, 1, 4096);
	held += 4096;
}

static void open_more(void)
{
	static int calls;

	if (calls++ % 50 == 0 && open("/dev/null", O_RDONLY) >= 0)
		held++;
}

static void load_config(void)
{
	static char *lines[1000];

	if (lines[0])
		return;
	for (int i = 0; i < 1000; i++)
		if (asprintf(&lines[i], "option %d = %d", i, i * 7) > 0)
			held += strlen(lines[i]) + 1;
}

static void touch_tables(void)
{
	static int calls;
	char name[40];
	time_t now = time(NULL);
	struct tm broken;
	void *library;

	if (calls++ % 50)
		return;
	snprintf(name, sizeof(name), "OPTION_%d", calls / 50 % 7);
	setenv(name, calls % 100 > 50 ? "a longer value than before" : "short", 1);
	setenv("TZ", calls % 100 > 50 ? "Europe/Vienna" : "Asia/Tokyo", 1);
	tzset();
	localtime_r(&now, &broken);
	setlocale(LC_ALL, calls % 100 > 50 ? "C.UTF-8" : "C");
	library = dlopen("libm.so.6", RTLD_NOW);
	if (library)
		dlclose(library);
}

static void *serve_part(void *unused)
{
	(void)unused;
	for (int i = 0; i < 20; i++)
		free(malloc(100 + i));
	return NULL;
}

static void start_threads(void)
{
	static int calls;
	pthread_t threads[4];

	if (calls++ % 50)
		return;
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, serve_part, NULL);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
}

static const struct {
	const char *name;
	void (*serve)(void);
} modes[] = {
	{"realloc", grow_buffer}, {"mmap", map_more}, {"files", open_more},
	{"config", load_config}, {"tables", touch_tables}, {"threads", start_threads},
};

int main(int argc, char **argv)
{
	long requests;

	while (scanf("%ld", &requests) == 1) {
		for (size_t i = 0; argc > 1 && i < sizeof(modes) / sizeof(*modes); i++)
			for (long left = requests; !strcmp(argv[1], modes[i].name) && left > 0; left--)
				modes[i].serve();
		printf("held %ld\n", held);
		fflush(stdout);
	}
	return 0;
}
