-- SPDX-License-Identifier: Apache-2.0
create table t (a integer primary key, b text, c real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 300)
insert into t select i, printf('%d-%s', i, hex(randomblob(8))), i * 1.5 from n;
create index x on t (b); select count(*), avg(c) from t where b like '%A%' group by a % 7;
select json_group_array(b) from t; with recursive d(i) as (select 1 union all select i*2 from d where i < 1e9) select * from d join t on t.a = d.i;
