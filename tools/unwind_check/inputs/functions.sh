# SPDX-License-Identifier: Apache-2.0
f() { local -a a; local i; for i in {1..40}; do a+=("$1$i"); done; [ "$2" -gt 0 ] && f "$1x" $(($2 - 1)); }
for n in {1..6}; do f v$n 6; x=$(echo ${n}); s="${x//[0-9]/y}"; declare -A m; m[$n]=$s; done
