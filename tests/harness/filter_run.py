# SPDX-License-Identifier: Apache-2.0
"""Runs filters in the kernel, on known system calls of this process. It is a program of its own.

Standard input: a list of expressions, JSON, in which PID stands for this process. Standard output:
for each expression the number of CALLS that filter_at_entry() accepted, and of those that
filter_at_exit() accepted then, by name.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys

from kwatch.programs.source import shim_directory, source_directory
from kwatch.syscalls import names
from kwatch.syscalls.filter.kernel_code import kernel_code
from kwatch.syscalls.filter.parser import parse
from kwatch.syscalls.filter.split import split
from kwatch.wire.events import Abi

COMM = "filter-test"
ABI = Abi.AARCH64 if os.uname().machine == "aarch64" else Abi.X86_64

_PR_SET_NAME = 15
_AT_FDCWD = -100
_PATH = ctypes.create_string_buffer(b"/no/such/file")
_SLEEP = (ctypes.c_long * 2)(0, 10_000_000)  # 10 ms

#: How often each call is made, and its arguments: two kinds succeed, two fail, one takes time.
CALLS = {
    "getppid": (7, ()),
    "getuid": (3, ()),
    "dup": (5, (-1,)),
    "faccessat": (11, (_AT_FDCWD, ctypes.addressof(_PATH), os.F_OK)),
    "clock_nanosleep": (2, (1, 0, ctypes.addressof(_SLEEP), 0)),
}

_HEAD = """
#include <linux/types.h>
#include <uapi/linux/bpf.h>
"""
_PROGRAM = """
#ifdef __x86_64__
#define FIRST_ARGUMENT 112 /* di, in struct pt_regs */
#else
#define FIRST_ARGUMENT 272 /* orig_x0 */
#endif

struct in_progress {
	struct filter_call call;
	u64 time_ns;
};

BPF_HASH(calls, u32, struct in_progress);
BPF_ARRAY(entered, u64, 1024);
BPF_ARRAY(returned, u64, 1024);

static __always_inline void fill_thread(struct filter_call *call)
{
	u64 ids = bpf_get_current_pid_tgid();

	call->pid = ids >> 32;
	call->tid = ids;
	bpf_get_current_comm(call->comm, sizeof(call->comm));
	call->uid = bpf_get_current_uid_gid();
	call->cgroup_id = bpf_get_current_cgroup_id();
}

int on_enter(struct bpf_raw_tracepoint_args *ctx)
{
	struct in_progress new = { .time_ns = bpf_ktime_get_ns() };
	u32 tid = bpf_get_current_pid_tgid(), nr = ctx->args[1];

	if (tid != TARGET)
		return 0;
	fill_thread(&new.call);
	new.call.nr = nr;
	new.call.abi = OWN_ABI;
	bpf_probe_read_kernel(new.call.arguments, 8, (void *)ctx->args[0] + FIRST_ARGUMENT);
	if (!filter_at_entry(&new.call))
		return 0;
	calls.update(&tid, &new);
	entered.increment(nr);
	return 0;
}

int on_exit(struct bpf_raw_tracepoint_args *ctx)
{
	u32 tid = bpf_get_current_pid_tgid();
	struct in_progress *found = calls.lookup(&tid);

	if (!found)
		return 0;
	found->call.result = ctx->args[1];
	found->call.duration_ns = bpf_ktime_get_ns() - found->time_ns;
	if (filter_at_exit(&found->call))
		returned.increment(found->call.nr);
	calls.delete(&tid);
	return 0;
}
"""


def _source(expression: str) -> str:
    header = (source_directory() / "filter_call.h").read_text()
    return _HEAD + header + kernel_code(split(parse(expression))) + _PROGRAM


def _make_calls() -> None:
    libc = ctypes.CDLL(None)
    for name, (times, arguments) in CALLS.items():
        words = [ctypes.c_long(word) for word in (names.number(ABI, name), *arguments)]
        for _ in range(times):
            libc.syscall(*words)


def _counts(expression: str) -> list[dict[str, int]]:
    from bcc import BPF

    macros = ["-DLINUX_VERSION_CODE=0", f"-DTARGET={os.getpid()}", f"-DOWN_ABI={int(ABI)}"]
    bpf = BPF(text=_source(expression), cflags=macros)
    bpf.attach_raw_tracepoint(tp="sys_exit", fn_name="on_exit")
    bpf.attach_raw_tracepoint(tp="sys_enter", fn_name="on_enter")
    _make_calls()
    bpf.detach_raw_tracepoint(tp="sys_enter")
    numbers = {name: names.number(ABI, name) for name in CALLS}
    tables = [bpf[table] for table in ("entered", "returned")]
    counts = [{name: table[nr].value for name, nr in numbers.items()} for table in tables]
    bpf.cleanup()
    return counts


if __name__ == "__main__":
    os.environ["BCC_KERNEL_SOURCE"] = str(shim_directory())
    ctypes.CDLL(None).prctl(_PR_SET_NAME, COMM.encode())
    expressions = [each.replace("PID", str(os.getpid())) for each in json.load(sys.stdin)]
    json.dump([_counts(expression) for expression in expressions], sys.stdout)
