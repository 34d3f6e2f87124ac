-- Keeps what checks came to, for waits that still stand, in the place of what was told of them before.
--  $1 who
--  checks: $2 task  $3 generation  $4 how many  $5 failures  $6 at  $7 took  $8 next at  $9 said
insert into reveille_check (task_id, generation, who, checks, failures, at, took_ms, next_at, said)
select t.task_id, t.generation, $1, c.checks, c.failures, c.at, c.took_ms, c.next_at, c.said
  from unnest($2::uuid[], $3::integer[], $4::bigint[], $5::integer[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bytea[])
    as c(id, generation, checks, failures, at, took_ms, next_at, said),
       lateral (select task_id, generation from reveille_trigger t where t.task_id = c.id and t.generation = c.generation limit 1) t
 order by t.task_id
    on conflict (task_id) do update
   set generation = excluded.generation, who = excluded.who, checks = excluded.checks, failures = excluded.failures,
       at = excluded.at, took_ms = excluded.took_ms, next_at = excluded.next_at, said = excluded.said
