// SPDX-License-Identifier: Apache-2.0
// A server with two workers that its master forks at the start. With `leak` they lose requests.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static long serve_request(long number, int loses)
{
	size_t size = 500 + number % 53;
	char *request = malloc(size);

	memset(request, 1, size);
	if (!loses)
		free(request);
	return loses ? (long)size : 0;
}

static void work(int channel, int loses)
{
	long requests, number = 0, held = 0;

	while (read(channel, &requests, sizeof(requests)) == sizeof(requests)) {
		for (; requests > 0; requests--)
			held += serve_request(number++, loses);
		if (write(channel, &held, sizeof(held)) != sizeof(held))
			break;
	}
	_exit(0);
}

int main(int argc, char **argv)
{
	int loses = argc > 1 && !strcmp(argv[1], "leak");
	int channels[2][2];
	long requests;

	for (int i = 0; i < 2; i++) {
		if (socketpair(AF_UNIX, SOCK_STREAM, 0, channels[i]))
			return 1;
		if (fork() == 0) {
			if (i)
				close(channels[0][0]);
			close(channels[i][0]);
			work(channels[i][1], loses);
		}
		close(channels[i][1]);
	}
	while (scanf("%ld", &requests) == 1) {
		long held = 0, part;

		for (int i = 0; i < 2; i++) {
			if (write(channels[i][0], &requests, sizeof(requests)) != sizeof(requests) ||
			    read(channels[i][0], &part, sizeof(part)) != sizeof(part))
				return 1;
			held += part;
		}
		printf("held %ld\n", held);
		fflush(stdout);
	}
	close(channels[0][0]);
	close(channels[1][0]);
	while (wait(NULL) > 0)
		;
	return 0;
}
