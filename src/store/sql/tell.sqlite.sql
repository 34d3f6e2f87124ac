-- Keeps what the checks of one trigger came to, if its wait still stands, in the place of what was told before.
--  $1 who  $2 task  $3 generation  $4 how many  $5 failures  $6 at  $7 took  $8 next at  $9 said
insert into reveille_check (task_id, generation, who, checks, failures, at, took_ms, next_at, said)
select task_id, generation, $1, $4, $5, $6, $7, $8, $9 from reveille_trigger where task_id = $2 and generation = $3
    on conflict (task_id) do update
   set generation = excluded.generation, who = excluded.who, checks = excluded.checks, failures = excluded.failures,
       at = excluded.at, took_ms = excluded.took_ms, next_at = excluded.next_at, said = excluded.said
