/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What a slot and the maps have where calls are recorded (RECORD). Also read by Python: see maps.h. */
#ifndef KWATCH_RECORD_MAPS_H
#define KWATCH_RECORD_MAPS_H

/* Of a call in progress that is recorded. */
struct recorded_call {
	__u64 arguments[6];
	__u64 ip;
	__u32 seq;
	__u16 flags; /* enum kwatch_call_flag */
	__u16 missing; /* the cells that could not be read at the entry, as bits */
	__u64 comm[2];
	__u64 cgroup_id;
	__u32 uid;
	__u32 tid;
};

/* Whose a recorded thread is. */
struct thread_user {
	__u64 cgroup_id;
	__u32 uid;
	__u32 reserved;
};

/* A request of io_uring that has been submitted. */
struct io_request {
	__u64 time_ns;
	__u64 flags;
	__u64 user_data;
	__u64 comm[2];
	__u32 tgid;
	__u32 tid;
	__u8 opcode;
	__u8 is_copy; /* of the one that is found by the request's address */
	__u8 reserved[6];
};

/* A walk along an argument that leads to further memory: see capture_nested.h. */
struct capture_walk {
	__u64 at; /* the message or the array of pointers */
	__u64 vector;
	__u64 name;
	__u64 control;
	__u64 left; /* bytes that the segments may still have */
	__u32 name_length;
	__u32 control_length;
	__u32 message;
	__u32 messages;
	__u32 segment;
	__u32 segments;
	__u32 step;
	__u32 begins; /* bytes captured before it */
	__u32 copy; /* bytes captured before the vector's chunk */
	__u32 reserved;
};

/* A capture under way. Its programs call each other, and find it in the thread's slot. */
struct capture {
	__u64 place; /* in the area of `cpu` */
	__u64 time_ns;
	__s64 result;
	__u32 cpu;
	__u32 used; /* bytes so far */
	__u32 seq; /* of the thread's last call */
	__u16 flags; /* enum kwatch_call_flag */
	__u8 type; /* of the record */
	__u8 reads; /* 0: nothing more than what was kept */
	__u16 pieces[16];
	struct capture_walk walk;
};

#define KEPT_START 128 /* bytes, after which no kept piece begins; a power of two */
#define KEPT_PIECE 256 /* bytes */

/* What was read at the entry of a call in progress: see capture_kept.h. */
struct kept_pieces {
	__u16 pieces[7]; /* the first six and the last one of a kwatch_call */
	__u16 used; /* bytes */
	__u8 bytes[KEPT_START + KEPT_PIECE];
};

#endif
