/* SPDX-License-Identifier: Apache-2.0
 *
 * Structures of the kernel's system call interface that its exported headers do not have, or have
 * in another form than the call takes. Compiled for each ABI by tools/syscall_data.
 */
#include <linux/types.h>

struct k_timespec { __kernel_long_t tv_sec; __kernel_long_t tv_nsec; };
struct k_itimerspec { struct k_timespec it_interval, it_value; };
struct k_timeval { __kernel_long_t tv_sec, tv_usec; };
struct k_itimerval { struct k_timeval it_interval, it_value; };
struct k_sigset { __u64 bits; };
struct k_sigaction { void *sa_handler; unsigned long sa_flags; void *sa_restorer; unsigned long sa_mask[8 / sizeof(long)]; };
struct k_stack { void *ss_sp; int ss_flags; unsigned long ss_size; };
struct k_sigset_argument { const void *ss; unsigned long ss_len; };
struct k_aio_sigset { const void *sigmask; unsigned long sigsetsize; };
struct k_iovec { void *iov_base; unsigned long iov_len; };
struct k_msghdr { void *msg_name; int msg_namelen; void *msg_iov; unsigned long msg_iovlen; void *msg_control; unsigned long msg_controllen; unsigned msg_flags; };
struct k_mmsghdr { struct k_msghdr msg_hdr; unsigned msg_len; };
struct k_cmsghdr { unsigned long cmsg_len; int cmsg_level; int cmsg_type; };
struct k_dirent { unsigned long d_ino, d_off; unsigned short d_reclen; char d_name[1]; };
struct k_dirent64 { __u64 d_ino; __s64 d_off; unsigned short d_reclen; unsigned char d_type; char d_name[1]; };
struct k_file_handle { __u32 handle_bytes; int handle_type; unsigned char f_handle[128]; };
struct k_rlimit { unsigned long rlim_cur, rlim_max; };
struct k_rusage {
	struct k_timeval ru_utime, ru_stime;
	__kernel_long_t ru_maxrss, ru_ixrss, ru_idrss, ru_isrss, ru_minflt, ru_majflt, ru_nswap;
	__kernel_long_t ru_inblock, ru_oublock, ru_msgsnd, ru_msgrcv, ru_nsignals, ru_nvcsw, ru_nivcsw;
};
struct k_utsname { char sysname[65], nodename[65], release[65], version[65], machine[65], domainname[65]; };
struct k_sched_param { int sched_priority; };
struct k_sigevent { unsigned long sigev_value; int sigev_signo, sigev_notify; int tid; char rest[44]; };
struct k_linger { int l_onoff, l_linger; };
struct k_ucred { __u32 pid, uid, gid; };
struct k_tms { __kernel_long_t tms_utime, tms_stime, tms_cutime, tms_cstime; };
struct k_utimbuf { __kernel_long_t actime, modtime; };
struct k_pollfd { int fd; short events, revents; };
struct k_epoll_event {
	__u32 events;
	__u64 data;
}
#if defined(__x86_64__)
__attribute__((packed))
#endif
;
struct k_kexec_segment { void *buf; unsigned long bufsz; void *mem; unsigned long memsz; };
struct k_sock_fprog { unsigned short len; void *filter; };
struct k_msgbuf { __kernel_long_t mtype; char mtext[1]; };
struct k_siginfo {
	int si_signo, si_errno, si_code;
	union {
		struct { int si_pid; __u32 si_uid; unsigned long si_value; } kill;
		struct { int si_pid; __u32 si_uid; int si_status; __kernel_clock_t si_utime, si_stime; } child;
		struct { void *si_addr; } fault;
		struct { long si_band; int si_fd; } poll;
		char size[128 - 3 * sizeof(int) - (sizeof(long) == 8 ? 4 : 0)];
	} u;
};
struct k_winsize { unsigned short ws_row, ws_col, ws_xpixel, ws_ypixel; };
struct k_termios { unsigned c_iflag, c_oflag, c_cflag, c_lflag; unsigned char c_line; unsigned char c_cc[19]; };
struct k_ifconf { int ifc_len; void *ifc_buf; };
struct k_sysinfo {
	__kernel_long_t uptime; __kernel_ulong_t loads[3], totalram, freeram, sharedram, bufferram, totalswap, freeswap;
	__u16 procs, pad; __kernel_ulong_t totalhigh, freehigh; __u32 mem_unit; char rest[20 - 2 * sizeof(__kernel_ulong_t) - sizeof(__u32) > 20 ? 0 : 20 - 2 * sizeof(__kernel_ulong_t) - sizeof(__u32)];
};
