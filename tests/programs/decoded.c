// build: -O1 -w
// SPDX-License-Identifier: Apache-2.0
/* One system call of each kind that kwatch decodes, in a fixed order and with fixed bytes, in the
 * folder given as its only argument: what strace prints of it is compared with kwatch's text. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/sendfile.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static char buffer[4096];

static void strings(void)
{
	static const char bytes[] = "\0001\t\n\v\f\r\"\\\a\b\x1b\x7f\x80\xff\0z9";
	int fd = open("bytes", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);

	write(fd, bytes, sizeof bytes - 1);
	write(fd, "0123456789abcdef0123456789abcdef", 32);
	write(fd, "0123456789abcdef0123456789abcdefX", 33);
	write(fd, "", 0);
	write(-1, NULL, 3);
	write(-1, (void *)8, 3);
	pread(fd, buffer, 18, 0);
	pread(fd, buffer, 100, 18);
	pread(fd, buffer, 100, 4000);
	pread(fd, (void *)8, 100, 0);
	lseek(fd, -5, SEEK_END);
	read(fd, buffer, 100);
	read(fd, buffer, 0);
	open("missing/\x01\xff\"", O_RDONLY);
	open((void *)8, O_WRONLY | O_APPEND);
	ftruncate(fd, 5);
	close(fd);
	readlink("/proc/self/exe-missing", buffer, 10);
	symlink("bytes", "link");
	readlink("link", buffer, sizeof buffer);
	rename("link", "other");
	unlink("other");
	mkdir("folder", 0700);
	rmdir("folder");
	chdir(".");
	getcwd(buffer, 3);
	access("bytes", R_OK | W_OK);
	chmod("bytes", 04755);
	umask(027);
	mknod("missing/node", S_IFCHR | 0600, 0x103);
	mknod("fifo", S_IFIFO | 0600, 0);
	setxattr("bytes", "user.kwatch", "value", 5, XATTR_CREATE);
	getxattr("bytes", "user.kwatch", buffer, 100);
	listxattr("bytes", buffer, 100);
	removexattr("bytes", "user.kwatch");
}

static void files(void)
{
	struct timespec times[2] = {{1700000000, 5}, {0, UTIME_OMIT}};
	struct open_how how = {.flags = O_RDONLY | O_CLOEXEC, .resolve = RESOLVE_NO_SYMLINKS};
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 1, .l_len = 10};
	struct f_owner_ex owner = {F_OWNER_PID, 1};
	struct statx extended;
	struct statfs system;
	struct stat status;
	loff_t from = 2;
	int fd = open("bytes", O_RDWR), other = open("copy", O_RDWR | O_CREAT | O_EXCL, 0600);
	int folder = open(".", O_RDONLY | O_DIRECTORY);

#ifdef SYS_stat
	syscall(SYS_stat, "bytes", &status);
#endif
	syscall(SYS_fstat, fd, &status);
#ifdef SYS_newfstatat
	syscall(SYS_newfstatat, AT_FDCWD, "/dev/null", &status, 0);
	syscall(SYS_newfstatat, -1, "bytes", &status, AT_SYMLINK_NOFOLLOW);
#endif
	syscall(SYS_statx, AT_FDCWD, "bytes", AT_STATX_DONT_SYNC, STATX_BASIC_STATS, &extended);
	syscall(SYS_statx, AT_FDCWD, "missing", 0, STATX_TYPE | STATX_MODE, &extended);
	statfs("/proc", &system);
	utimensat(AT_FDCWD, "bytes", times, 0);
	syscall(SYS_openat2, AT_FDCWD, "bytes", &how, sizeof how);
	fcntl(fd, F_GETFL);
	fcntl(fd, F_SETFL, O_NONBLOCK | O_APPEND);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	fcntl(fd, F_GETFD);
	fcntl(fd, F_SETLK, &lock);
	fcntl(fd, F_GETLK, &lock);
	fcntl(fd, F_OFD_GETLK, (struct flock[1]){{.l_type = F_RDLCK}});
	fcntl(fd, F_SETOWN_EX, &owner);
	fcntl(fd, F_DUPFD, 20);
	fcntl(fd, 999, 5);
	flock(fd, LOCK_EX | LOCK_NB);
	fallocate(other, FALLOC_FL_KEEP_SIZE, 0, 100);
	sendfile(other, fd, &from, 2);
	syscall(SYS_copy_file_range, fd, NULL, other, &from, 1, 0);
	posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	syscall(SYS_getdents64, folder, buffer, sizeof buffer);
	syscall(SYS_getdents64, folder, buffer, sizeof buffer);
	syscall(SYS_close_range, 30, 40, 4);
	dup2(fd, 25);
	close(25);
	close(other);
	close(fd);
}

static void vectors(void)
{
	struct iovec parts[3] = {{"first", 5}, {"second part that is longer than 32 bytes", 40}, {NULL, 0}};
	struct iovec room[2] = {{buffer, 3}, {buffer + 10, 100}};
	char *arguments[] = {"program", "one", "an argument of more than thirty-two bytes", NULL};
	char *environment[] = {"A=1", "B=2", NULL};
	int fds[2];

	pipe(fds);
	pipe2(fds, O_CLOEXEC | O_NONBLOCK);
	writev(fds[1], parts, 3);
	readv(fds[0], room, 2);
	readv(fds[0], room, 1);
	writev(-1, (void *)8, 1);
	vmsplice(fds[1], parts, 1, SPLICE_F_NONBLOCK);
	tee(fds[0], fds[1], 5, SPLICE_F_NONBLOCK);
	syscall(SYS_execve, "missing", arguments, environment);
	syscall(SYS_execve, "missing", NULL, environment + 2);
	syscall(SYS_execveat, -1, "missing", arguments, environment, AT_EMPTY_PATH);
}

static void sockets(void)
{
	struct sockaddr_un local = {AF_UNIX, "socket"}, hidden = {AF_UNIX, "\0hidden"};
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(9), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct { struct cmsghdr head; int fds[2]; } control = {{CMSG_LEN(8), SOL_SOCKET, SCM_RIGHTS}, {0, 1}};
	struct iovec data = {"message", 7}, room = {buffer, 100};
	struct msghdr sent = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_LEN(8)};
	struct msghdr got = {.msg_iov = &room, .msg_iovlen = 1, .msg_control = buffer + 200, .msg_controllen = 100};
	struct mmsghdr many[2] = {{.msg_hdr = {.msg_iov = &data, .msg_iovlen = 1}}, {.msg_hdr = {.msg_iov = &data, .msg_iovlen = 1}}};
	struct linger linger = {1, 5};
	struct timeval timeout = {2, 500};
	struct sockaddr_storage name;
	socklen_t size = sizeof name;
	int pair[2], one = 1, fd;

	socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
	sendmsg(pair[0], &sent, MSG_NOSIGNAL);
	recvmsg(pair[1], &got, MSG_CMSG_CLOEXEC);
	send(pair[0], "abc", 3, MSG_DONTWAIT);
	recv(pair[1], buffer, 100, MSG_PEEK | MSG_TRUNC);
	recv(pair[1], buffer, 2, MSG_TRUNC);
	syscall(SYS_sendmmsg, pair[0], many, 2, 0);
	syscall(SYS_recvmmsg, pair[1], many, 2, MSG_DONTWAIT, NULL);
	recvmsg(pair[1], &got, MSG_DONTWAIT);
	getsockname(pair[0], (void *)&name, &size);
	size = 8;
	getsockopt(pair[0], SOL_SOCKET, SO_TYPE, &one, &size);
	size = sizeof(struct ucred);
	getsockopt(pair[0], SOL_SOCKET, SO_LINGER, buffer, &size);
	setsockopt(pair[0], SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
	setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
	shutdown(pair[0], SHUT_WR);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	bind(fd, (void *)&local, offsetof(struct sockaddr_un, sun_path) + 7);
	bind(fd, (void *)&hidden, offsetof(struct sockaddr_un, sun_path) + 7);
	connect(fd, (void *)&hidden, offsetof(struct sockaddr_un, sun_path) + 7);
	connect(fd, (void *)&local, 2);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, IPPROTO_TCP);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, 4);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, 4);
	bind(fd, (void *)&four, sizeof four);
	listen(fd, 5);
	size = 4;
	getsockname(fd, (void *)&name, &size);
	size = sizeof name;
	accept4(fd, (void *)&name, &size, SOCK_CLOEXEC);
	fd = socket(AF_INET6, SOCK_DGRAM, IPPROTO_IP);
	connect(fd, (void *)&six, sizeof six);
	getpeername(fd, (void *)&name, &size);
	sendto(fd, "datagram", 8, 0, (void *)&six, sizeof six);
	socket(AF_NETLINK, SOCK_RAW, 16);
	socket(AF_PACKET, SOCK_RAW, 0);
	socket(77, 77, 77);
}

static void waiting(void)
{
	struct epoll_event event = {EPOLLIN | EPOLLET, {.u64 = 7}}, events[4];
	struct timespec none = {0, 0}, short_time = {0, 1000};
	struct timeval moment = {0, 0};
	struct pollfd fds[2] = {{-1, POLLIN, 0}, {0, POLLIN | POLLOUT, 0}};
	fd_set in, out;
	sigset_t mask;
	int pair[2], epoll;

	pipe(pair);
	fds[1].fd = pair[1];
	fds[0].fd = pair[0];
	poll(fds, 2, 0);
	poll(fds, 1, 0);
	sigemptyset(&mask);
	sigaddset(&mask, SIGINT);
	ppoll(fds, 2, &short_time, &mask);
	FD_ZERO(&in);
	FD_ZERO(&out);
	FD_SET(pair[0], &in);
	FD_SET(pair[1], &out);
#ifdef __x86_64__ /* an i386 program uses _newselect, arm64 has none */
	syscall(SYS_select, pair[1] + 1, &in, &out, NULL, NULL);
	syscall(SYS_select, pair[0] + 1, &in, NULL, NULL, &moment);
#endif
	syscall(SYS_pselect6, 0, NULL, NULL, NULL, &none, NULL);
	epoll = epoll_create1(EPOLL_CLOEXEC);
	epoll_ctl(epoll, EPOLL_CTL_ADD, pair[0], &event);
	write(pair[1], "x", 1);
	epoll_wait(epoll, events, 4, 0);
	epoll_pwait(epoll, events, 4, 0, &mask);
	epoll_ctl(epoll, EPOLL_CTL_DEL, pair[0], NULL);
	nanosleep(&short_time, NULL);
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &none, NULL);
	inotify_add_watch(inotify_init1(IN_CLOEXEC), ".", IN_CREATE | IN_ONLYDIR);
}

static void signals(void)
{
	struct sigaction action = {.sa_handler = SIG_IGN, .sa_flags = SA_RESTART | SA_NODEFER};
	stack_t stack = {.ss_flags = SS_DISABLE}, old;
	siginfo_t info;
	sigset_t set;
	pid_t child;
	int status;

	sigfillset(&set);
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &set, NULL, 8);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGRTMIN + 3);
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &set, &set, 8);
	action.sa_mask = set;
	sigaction(SIGUSR2, &action, NULL);
	sigaltstack(&stack, &old);
	kill(getpid(), SIGUSR1);
	syscall(SYS_rt_sigpending, &set, 8);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	syscall(SYS_rt_sigtimedwait, &set, &info, &(struct timespec){1, 0}, 8);
	kill(0, 0x7f);
	child = fork();
	if (child == 0)
		_exit(3);
	wait4(child, &status, 0, NULL);
	waitid(P_ALL, 0, &info, WEXITED | WNOHANG);
	wait4(-1, &status, WNOHANG | __WALL, NULL);
	prctl(PR_SET_NAME, "decoded");
	prctl(PR_GET_NAME, buffer);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	prctl(PR_SET_PDEATHSIG, 0);
	prctl(PR_GET_DUMPABLE);
	prctl(999, 1, 2, 3, 4);
}

static void memory(void)
{
	char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	mprotect(page, 4096, PROT_NONE);
	madvise(page, 8192, MADV_DONTNEED);
	page = mremap(page + 4096, 4096, 8192, MREMAP_MAYMOVE);
	mremap(page, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, page);
	msync(page, 4096, MS_SYNC);
	munmap(page, 8192);
	mmap((void *)1, 0, PROT_EXEC, MAP_SHARED | MAP_FIXED, -1, 0x5000);
	syscall(SYS_mlock2, 0, 4096, 1);
	syscall(SYS_memfd_create, "name", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	syscall(SYS_futex, buffer, 129, 1, NULL, NULL, 0);
	syscall(SYS_futex, buffer, 128, 1, NULL, NULL, 0);
	syscall(SYS_futex, buffer, 9 | 256, 1, &(struct timespec){1, 0}, NULL, -1);
	syscall(SYS_membarrier, 0, 0, 0);
	shmctl(shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600), IPC_RMID, NULL);
	shmat(-1, NULL, SHM_RDONLY);
	semop(-1, (struct sembuf[1]){{0, -1, IPC_NOWAIT}}, 1);
	msgsnd(-1, "xxxxxxxxxxxxxxxx", 3, IPC_NOWAIT);
	msgrcv(-1, buffer, 3, 0, IPC_NOWAIT);
}

static void system_state(void)
{
	struct rlimit limit;
	struct rusage usage;
	struct utsname name;
	struct itimerval timer = {{0, 0}, {100, 0}};
	struct itimerspec fd_timer = {{1, 0}, {2, 3}};
	struct sched_param parameter = {0};
	struct winsize size = {24, 80, 0, 0};
	struct termios terminal = {0};
	struct timespec now;
	gid_t groups[65536];
	cpu_set_t cpus;
	uid_t ids[3];
	int master = -1, slave = -1, fd, value = 0;

	getrlimit(RLIMIT_NOFILE, &limit);
	syscall(SYS_prlimit64, 0, RLIMIT_CORE, &(struct rlimit){0, RLIM_INFINITY}, &limit);
	getrusage(RUSAGE_SELF, &usage);
	uname(&name);
	getresuid(ids, ids + 1, ids + 2);
	getgroups(65536, groups);
	setresuid(-1, 0, -1);
	setitimer(ITIMER_REAL, &timer, NULL);
	getitimer(ITIMER_VIRTUAL, &timer);
	fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC);
	timerfd_settime(fd, 0, &fd_timer, &fd_timer);
	syscall(SYS_clock_gettime, CLOCK_PROCESS_CPUTIME_ID, &now);
	syscall(SYS_clock_getres, CLOCK_REALTIME, &now);
	syscall(SYS_clock_gettime, 99, &now);
	syscall(SYS_sched_getaffinity, 0, sizeof cpus, &cpus);
	syscall(SYS_sched_getparam, 0, &parameter);
	syscall(SYS_sched_setscheduler, 0, SCHED_BATCH, &parameter);
	syscall(SYS_sched_getscheduler, 0);
	getpriority(PRIO_PROCESS, 0);
	setpriority(PRIO_PGRP, 99999999, 5);
	openpty(&master, &slave, NULL, NULL, NULL);
	ioctl(master, TIOCSWINSZ, &size);
	ioctl(slave, TIOCGWINSZ, &size);
	tcgetattr(slave, &terminal);
	terminal.c_lflag &= ~(ICANON | ECHO);
	tcsetattr(slave, TCSANOW, &terminal);
	ioctl(master, FIONREAD, &value);
	ioctl(master, FIONBIO, &value);
	ioctl(-1, 0x80104132, buffer);
	ioctl(-1, 0xdeadbeef, 1);
	ioctl(-1, 0x5421, NULL);
	syscall(999, 1, 2, 3, 4, 5, 6);
	mount("none", "missing", "tmpfs", MS_NOSUID | MS_NODEV, "size=1");
	umount2("missing", MNT_DETACH);
	unshare(0);
	syscall(SYS_getrandom, buffer, 3, GRND_NONBLOCK);
	syscall(SYS_personality, 0xffffffff);
	syscall(SYS_seccomp, 2, 0, &value);
}

int main(int argc, char **argv)
{
	if (argc != 2 || chdir(argv[1]))
		return 1;
	strings();
	files();
	vectors();
	sockets();
	waiting();
	signals();
	memory();
	system_state();
	return 0;
}
