// build: -O1 -g -pthread
// SPDX-License-Identifier: Apache-2.0
/*
 * One thread receives messages into a shared buffer of 64 bytes. Another checks that the message is
 * not longer than a name may be, notes it, and copies it into a record: between its check and its
 * copy, a longer message may come. Argument: a folder. With `tell`, it also prints the number that
 * the damaging message ends with.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "answers.h"

#define MESSAGES 5000
#define PAUSE 100 /* microseconds: messages come one by one, and a note takes its time */
#define MAX_NAME 16

static struct {
	volatile long length;
	char bytes[64];
} shared;

static struct {
	char name[MAX_NAME];
	char owner[64];
} record = {"", "owner: nobody"};

static int ends[2], notes, names;
static atomic_bool over;

static void *receive(void *argument)
{
	long length;

	while ((length = read(ends[1], shared.bytes, sizeof(shared.bytes))) > 0)
		shared.length = length;
	over = true;
	return argument;
}

NOINLINE static void copy(char *to, const char *from, long length)
{
	for (long i = 0; i < length; i++)
		to[i] = from[i];
}

static void *keep(void *argument)
{
	while (!over) {
		char note[32];
		long length = shared.length;

		if (length == 0 || length > MAX_NAME)
			continue;
		if (write(notes, note, snprintf(note, sizeof(note), "%ld bytes fit\n", length)) < 0)
			break;
		usleep(PAUSE);
		length = shared.length;
		copy(record.name, shared.bytes, length);
		if (write(names, record.name, length) < 0 || strcmp(record.owner, "owner: nobody"))
			break;
	}
	over = true;
	return argument;
}

static int created(const char *folder, const char *name)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
}

static void send_messages(void)
{
	for (int i = 0; i < MESSAGES && !over; i++) {
		char text[64];
		int is_long = i % 8 == 7;
		int length = snprintf(text, sizeof(text), is_long ? "a message of 40 bytes, number %10d" :
				      "name %d", i);

		if (send(ends[0], text, length, 0) < 0)
			break;
		usleep(is_long ? 20 * PAUSE : PAUSE);
	}
	shutdown(ends[0], SHUT_WR);
}

int main(int argc, char **argv)
{
	pthread_t threads[2];

	if (argc < 2 || socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends))
		return 2;
	notes = created(argv[1], "notes");
	names = created(argv[1], "names");
	pthread_create(&threads[0], NULL, receive, NULL);
	pthread_create(&threads[1], NULL, keep, NULL);
	send_messages();
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	if (strcmp(record.owner, "owner: nobody") == 0)
		return 0;
	if (argc > 2)
		answer("message", strtol(record.owner + 14, NULL, 10));
	fputs("overflow: the owner of the record has changed\n", stderr);
	return 1;
}
