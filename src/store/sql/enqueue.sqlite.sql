-- Stores a batch of tasks, with the waits of those that begin deferred. A task whose id exists, unfinished or finished, is left
-- as it is.
--  $1 now
--  $2 tasks and their waits, as a JSON array of
--     [id, name, queue, origin, batch, priority, ready at (null: begins deferred), expires at, max attempts, backoff ms,
--      backoff cap ms, dedupe, step begins at, step's length, trace, slot key, slot limit,
--      kind (null: none), passive, spec begins at, spec's length, wake at, deadline at, it is fixed, or resume, error budget]
--  $3 the bytes of all steps and specs
--  $4 keys, as a JSON array of [id, key]
-- All statements see the same tasks: only the last adds any.
insert into reveille_history (day, task_id, at, generation, turn, attempt, was, became, why)
select $1 / 86400000 % 32, unhex(f.value ->> 0), $1, 0, 0, 1, null,
       case when f.value ->> 6 is null then 'deferred' else 'ready' end, 'enqueued'
  from json_each($2) f
 where not exists (select 1 from reveille_task where id = unhex(f.value ->> 0))
   and not exists (select 1 from reveille_finished where id = unhex(f.value ->> 0));

insert into reveille_trigger (task_id, generation, kind, passive, queue, priority, spec, since, wake_at, deadline_at,
                              deadline_is_fixed, or_resume, error_budget, deaths)
select unhex(f.value ->> 0), 0, f.value ->> 17, f.value ->> 18, f.value ->> 2, f.value ->> 5,
       substr($3, f.value ->> 19, f.value ->> 20), $1, f.value ->> 21, f.value ->> 22, f.value ->> 23, f.value ->> 24,
       f.value ->> 25, 0
  from json_each($2) f
 where f.value ->> 17 is not null
   and not exists (select 1 from reveille_task where id = unhex(f.value ->> 0))
   and not exists (select 1 from reveille_finished where id = unhex(f.value ->> 0));

insert into reveille_wait_key (key, task_id, generation)
select x.value ->> 1, unhex(x.value ->> 0), 0
  from json_each($4) x
 where not exists (select 1 from reveille_task where id = unhex(x.value ->> 0))
   and not exists (select 1 from reveille_finished where id = unhex(x.value ->> 0));

insert into reveille_task (id, name, queue, origin, batch, state, priority, ready_at, expires_at, generation, turn, attempt,
                           crashes, max_attempts, backoff_ms, backoff_cap_ms, dedupe, slot_key, slot_limit, step, trace, enqueued_at)
select unhex(f.value ->> 0), f.value ->> 1, f.value ->> 2, f.value ->> 3, unhex(f.value ->> 4),
       case when f.value ->> 6 is null then 'deferred' else 'ready' end, f.value ->> 5, f.value ->> 6, f.value ->> 7, 0, 0, 1, 0,
       f.value ->> 8, f.value ->> 9, f.value ->> 10, f.value ->> 11, f.value ->> 15, f.value ->> 16,
       substr($3, f.value ->> 12, f.value ->> 13), f.value ->> 14, $1
  from json_each($2) f
 where not exists (select 1 from reveille_finished where id = unhex(f.value ->> 0))
    on conflict (id) do nothing
returning id;
