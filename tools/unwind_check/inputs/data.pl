# SPDX-License-Identifier: Apache-2.0
sub f { my ($d) = @_; my %h = map { ("k$_" => [1..$_ % 9]) } 1..60; return $d ? f($d - 1) : keys %h }
for (1..20) { f(5); my $s = join ",", map { $_ ** 2 } 1..99; $s =~ s/(\d+)/<$1>/g; my @p = sort split /,/, $s }
