// build: -O1 -g -D_GNU_SOURCE
// SPDX-License-Identifier: Apache-2.0
/*
 * descriptors DIRECTORY: uses descriptors of all kinds, some of which are open before `ready`. All
 * that have a number of their own stay open until the end. In between, one descriptor is closed and
 * opened again for another file, REUSES times.
 */
#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>

#include "answers.h"

#define REUSES 307

static struct sockaddr_in address = {.sin_family = AF_INET};
static socklen_t size = sizeof(address);

/* A call that must succeed. */
static int must(long result)
{
	if (result < 0)
		err(1, "a call of the program");
	return result;
}

static int listening(int type)
{
	int fd = must(socket(AF_INET, type, 0));

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	address.sin_port = 0;
	must(bind(fd, (struct sockaddr *)&address, sizeof(address)));
	if (type == SOCK_STREAM)
		must(listen(fd, 1));
	must(getsockname(fd, (struct sockaddr *)&address, &size));
	return fd;
}

static void use_sockets(void)
{
	struct sockaddr_un local = {.sun_family = AF_UNIX, .sun_path = "socket"};
	int pair[2], server, client, accepted, datagram;
	char byte;

	server = listening(SOCK_STREAM);
	client = must(socket(AF_INET, SOCK_STREAM, 0));
	must(connect(client, (struct sockaddr *)&address, size));
	accepted = must(accept(server, NULL, NULL));
	must(write(client, "x", 1));
	must(read(accepted, &byte, 1));
	datagram = listening(SOCK_DGRAM);
	must(sendto(datagram, "x", 1, 0, (struct sockaddr *)&address, size));
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	must(write(pair[0], "x", 1));
	must(read(pair[1], &byte, 1));
	server = must(socket(AF_UNIX, SOCK_STREAM, 0));
	must(bind(server, (struct sockaddr *)&local, sizeof(local)));
	must(listen(server, 1));
	client = must(socket(AF_UNIX, SOCK_STREAM, 0));
	must(connect(client, (struct sockaddr *)&local, sizeof(local)));
	accepted = must(accept4(server, NULL, NULL, SOCK_CLOEXEC));
	must(write(accepted, "x", 1));
	must(read(client, &byte, 1));
}

static void use_files(void)
{
	int fd, other;

	fd = must(open("a file, with <marks>", O_CREAT | O_RDWR | O_CLOEXEC, 0600));
	must(rename("a file, with <marks>", "renamed"));
	must(write(fd, "x", 1));
	must(unlink("renamed"));
	must(write(fd, "x", 1));
	other = must(dup2(fd, 200));
	must(fcntl(fd, F_DUPFD_CLOEXEC, 210));
	must(close(fd));
	must(dup2(other, 201));
	must(mkdir("below", 0700));
	must(symlink("below", "link"));
	fd = must(open("link", O_PATH | O_DIRECTORY));
	must(fchdir(fd));
	must(openat(fd, "../link/../below", O_RDONLY));
	must(chdir("/"));
	must(open("etc/passwd", O_RDONLY));
	must(close_range(200, 202, 0));
	if (close(200) != -1 || fcntl(201, F_GETFD) != -1)
		err(1, "it is closed");
}

static void use_others(void)
{
	struct epoll_event event = {.events = EPOLLIN};
	int fds[2], epoll, counter;
	struct pollfd polled;

	must(pipe(fds));
	must(write(fds[1], "x", 1));
	epoll = must(epoll_create1(0));
	counter = must(eventfd(0, 0));
	must(epoll_ctl(epoll, EPOLL_CTL_ADD, counter, &event));
	polled = (struct pollfd){counter, POLLIN, 0};
	must(poll(&polled, 1, 0));
	must(write(must(memfd_create("memory", 0)), "x", 1));
	must(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
	must(inotify_init1(0));
	must(fcntl(must(dup(counter)), F_SETFD, FD_CLOEXEC));
}

static void reuse(void)
{
	static const char *const paths[] = {"/etc/passwd", "/dev/zero"};
	char byte;
	int fd;

	for (int i = 0; i < REUSES; i++) {
		fd = must(open(paths[i % 2], O_RDONLY));
		must(read(fd, &byte, 1));
		must(close(fd));
	}
}

int main(int argc, char **argv)
{
	int file, server, ends[2];
	char byte;

	parse_now(argc, argv);
	if (argc < 2)
		errx(2, "give a directory");
	must(chdir(argv[1]));
	file = must(open("/etc/passwd", O_RDONLY));
	server = listening(SOCK_STREAM);
	must(pipe(ends));
	stage("ready");
	must(read(file, &byte, 1));
	must(listen(server, 2));
	must(write(ends[1], "x", 1));
	must(read(ends[0], &byte, 1));
	use_sockets();
	use_files();
	use_others();
	reuse();
	must(close(ends[0]));
	answer("reuses", REUSES);
	stage("done");
	return 0;
}
