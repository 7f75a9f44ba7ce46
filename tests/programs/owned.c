// build: -O1 -g -fno-builtin -ldl
// SPDX-License-Identifier: Apache-2.0
/*
 * owned handed|kept: calls functions of the C library. `handed`: each of them gives its caller
 * memory, which the program loses once. `kept`: each fills a table of the library's own, which stays.
 * The answers are the bytes that each call left allocated by malloc's own count (0 with musl,
 * which has none), and their number, `calls`.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <glob.h>
#include <grp.h>
#include <iconv.h>
#include <ifaddrs.h>
#include <locale.h>
#include <net/if.h>
#include <netdb.h>
#include <pwd.h>
#include <regex.h>
#include <search.h>
#include <syslog.h>
#include <time.h>
#include <wchar.h>
#include <wordexp.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "answers.h"

static void *volatile sink;
static volatile size_t length;

NOINLINE static void strdup_lost(void) { sink = strdup("a name that nobody frees"); }
NOINLINE static void strndup_lost(void) { sink = strndup("a name that nobody frees", 7); }
NOINLINE static void wcsdup_lost(void) { sink = wcsdup(L"a name"); }
NOINLINE static void realpath_lost(void) { sink = realpath("/proc/..", NULL); }
NOINLINE static void getcwd_lost(void) { sink = getcwd(NULL, 0); }
NOINLINE static void opendir_lost(void) { sink = opendir("/"); }
NOINLINE static void fopen_lost(void) { sink = fopen("/dev/null", "r"); }
NOINLINE static void fdopen_lost(void) { sink = fdopen(dup(0), "r"); }
NOINLINE static void fmemopen_lost(void) { sink = fmemopen(NULL, 100, "w+"); }
NOINLINE static void tmpfile_lost(void) { sink = tmpfile(); }
NOINLINE static void newlocale_lost(void) { sink = duplocale(newlocale(LC_ALL_MASK, "C.UTF-8", 0)); }
NOINLINE static void if_nameindex_lost(void) { sink = if_nameindex(); }

NOINLINE static void asprintf_lost(void)
{
	char *text = NULL;

	length = asprintf(&text, "%d of %s", 17, "many");
	sink = text;
}

NOINLINE static void getline_lost(void)
{
	char *line = NULL;
	size_t size = 0;
	FILE *file = fopen("/proc/self/status", "r");

	length = getline(&line, &size, file);
	sink = line;
	fclose(file);
}

NOINLINE static void scandir_lost(void)
{
	struct dirent **names = NULL;

	length = scandir("/proc/self/ns", &names, NULL, alphasort);
	sink = names;
}

NOINLINE static void regcomp_lost(void)
{
	regex_t pattern;

	length = regcomp(&pattern, "^a(b|c)*d$", REG_EXTENDED);
}

NOINLINE static void glob_lost(void)
{
	glob_t found = {0};

	length = glob("/etc/host*", 0, NULL, &found);
}

NOINLINE static void wordexp_lost(void)
{
	wordexp_t words = {0};

	length = wordexp("one two", &words, 0);
}

NOINLINE static void getifaddrs_lost(void)
{
	struct ifaddrs *addresses = NULL;

	length = getifaddrs(&addresses);
	sink = addresses;
}

NOINLINE static void getaddrinfo_lost(void)
{
	struct addrinfo *found = NULL, hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM};

	length = getaddrinfo("127.0.0.1", "80", &hints, &found);
	sink = found;
}

NOINLINE static void open_memstream_lost(void)
{
	static char *text;
	static size_t size;

	sink = open_memstream(&text, &size);
}

static int compare(const void *one, const void *other)
{
	return strcmp(one, other);
}

NOINLINE static void tsearch_lost(void)
{
	void *root = NULL;

	sink = tsearch("key", &root, compare);
}

NOINLINE static void iconv_open_lost(void) { sink = iconv_open("UTF-16", "ISO-8859-1"); }

NOINLINE static void setenv_kept(void)
{
	char name[32];

	for (int i = 0; i < 23; i++) {
		snprintf(name, sizeof(name), "KEPT_OPTION_%d", i);
		setenv(name, i % 2 ? "a value" : "another value", 1);
	}
}

NOINLINE static void putenv_kept(void)
{
	static char text[] = "KEPT=value";

	putenv(text);
}

NOINLINE static void time_zone_kept(void)
{
	static const char *const zones[] = {"UTC", "Europe/Vienna", "CET-1CEST", "Asia/Tokyo"};
	time_t now = 1700000000;
	char text[64];

	for (int i = 0; i < 4; i++) {
		setenv("TZ", zones[i], 1);
		tzset();
		length = strftime(text, sizeof(text), "%Z", localtime(&now));
		length += mktime(localtime(&now));
	}
}

NOINLINE static void locale_kept(void)
{
	setlocale(LC_ALL, "C.UTF-8");
	setlocale(LC_NUMERIC, "C");
}

static void at_exit(void)
{
}

NOINLINE static void at_exit_kept(void)
{
	for (int i = 0; i < 100; i++)
		atexit(at_exit);
}

NOINLINE static void library_kept(void)
{
	for (int i = 0; i < 3; i++) {
		void *library = dlopen("libm.so.6", RTLD_NOW);

		if (library && i < 2)
			dlclose(library);
		sink = dlopen("libnothing.so.7", RTLD_NOW);
		sink = dlerror();
	}
}

NOINLINE static void names_kept(void)
{
	sink = getpwnam("root");
	sink = getgrnam("root");
	sink = getservbyname("http", "tcp");
	sink = getpwnam("nobody");
}

NOINLINE static void stream_buffers_kept(void)
{
	static FILE *volatile streams[1];

	streams[0] = stdin;
	length = ungetc('x', stdin);
	length = getc(stdin);
	fprintf(stderr, "%s", "");
	openlog("owned", 0, LOG_USER);
}

#define CALL(function) {#function, function}

static const struct call {
	const char *name;
	void (*function)(void);
} handed[] = {
	CALL(strdup_lost), CALL(strndup_lost), CALL(wcsdup_lost), CALL(realpath_lost),
	CALL(getcwd_lost), CALL(opendir_lost), CALL(fopen_lost), CALL(fdopen_lost),
	CALL(fmemopen_lost), CALL(tmpfile_lost), CALL(newlocale_lost), CALL(if_nameindex_lost),
	CALL(asprintf_lost), CALL(getline_lost), CALL(scandir_lost), CALL(regcomp_lost),
	CALL(glob_lost), CALL(wordexp_lost), CALL(getifaddrs_lost), CALL(getaddrinfo_lost),
	CALL(open_memstream_lost), CALL(tsearch_lost), CALL(iconv_open_lost),
}, kept[] = {
	CALL(setenv_kept), CALL(putenv_kept), CALL(time_zone_kept), CALL(locale_kept),
	CALL(at_exit_kept), CALL(library_kept), CALL(names_kept), CALL(stream_buffers_kept),
};

static long allocated(void)
{
#ifdef __GLIBC__
	return mallinfo2().uordblks;
#else
	return 0;
#endif
}

int main(int argc, char **argv)
{
	bool keeps = argc > 1 && !strcmp(argv[1], "kept");
	const struct call *calls = keeps ? kept : handed;
	size_t count = keeps ? sizeof(kept) / sizeof(*kept) : sizeof(handed) / sizeof(*handed);
	const char *only = argc > 2 ? argv[2] : "";

	clearenv(); /* how its array grows depends on its size */
	stage("ready");
	for (size_t i = 0; i < count; i++) {
		long before = allocated();

		if (*only && strcmp(only, calls[i].name))
			continue;
		calls[i].function();
		answer(calls[i].name, allocated() - before);
	}
	answer("calls", count);
	stage("done");
	return 0;
}
