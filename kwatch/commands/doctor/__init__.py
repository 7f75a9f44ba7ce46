# SPDX-License-Identifier: Apache-2.0
"""`kwatch doctor`: what works on this machine, what does not, and the cure."""
