# SPDX-License-Identifier: Apache-2.0
"""Plain values that all layers share: options, snapshots, frames, processes, losses."""
