/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Empty on purpose: bcc carries its own copy of what it needs from here. */
