-- Swaps running tasks for waits: for a next step (a new turn), or for the same step again (a retry, a snooze).
--  $1 now  $2 me
--  $3 tasks and their waits, as a JSON array of
--     [task, generation, step begins at (null: the same again), step's length, attempt, why,
--      kind, passive, spec begins at, spec's length, wake at, deadline at, it is fixed, or resume, error budget]
--  $4 the bytes of all steps and specs
--  $5 keys, as a JSON array of [task, generation, key]
-- A task that was cancelled meanwhile does not defer, nor does one that I no longer hold.
-- The first statement decides. Until the last, a task that it moved is the only kind that is deferred and has no trigger.
update reveille_task as k
   set state = 'deferred', holder = null, generation = k.generation + 1,
       step = coalesce(substr($4, f.value ->> 2, f.value ->> 3), k.step),
       event = case when f.value ->> 2 is null then k.event end,
       progress = case when f.value ->> 2 is null then k.progress end,
       turn = k.turn + (f.value ->> 2 is not null),
       crashes = case when f.value ->> 2 is null then k.crashes else 0 end,
       attempt = f.value ->> 4
  from json_each($3) f
 where k.id = unhex(f.value ->> 0) and k.generation = f.value ->> 1 and k.state = 'running' and k.holder = $2
   and k.cancel_requested_at is null
   and exists (select 1 from reveille_replica r where r.incarnation = $2 and r.gone_at is null);

insert into reveille_history (day, task_id, at, generation, turn, attempt, was, became, why, who)
select $1 / 86400000 % 32, k.id, $1, k.generation, k.turn, k.attempt, 'running', 'deferred', f.value ->> 5, $2
  from json_each($3) f
       cross join reveille_task k on k.id = unhex(f.value ->> 0) and k.generation = (f.value ->> 1) + 1 and k.state = 'deferred'
 where not exists (select 1 from reveille_trigger t where t.task_id = k.id);

insert into reveille_wait_key (key, task_id, generation)
select x.value ->> 2, k.id, k.generation
  from json_each($5) x
       cross join reveille_task k on k.id = unhex(x.value ->> 0) and k.generation = (x.value ->> 1) + 1 and k.state = 'deferred'
 where not exists (select 1 from reveille_trigger t where t.task_id = k.id);

insert into reveille_trigger (task_id, generation, kind, passive, queue, priority, spec, since, wake_at, deadline_at,
                              deadline_is_fixed, or_resume, error_budget, deaths)
select k.id, k.generation, f.value ->> 6, f.value ->> 7, k.queue, k.priority, substr($4, f.value ->> 8, f.value ->> 9), $1,
       f.value ->> 10, f.value ->> 11, f.value ->> 12, f.value ->> 13, f.value ->> 14, 0
  from json_each($3) f
       cross join reveille_task k on k.id = unhex(f.value ->> 0) and k.generation = (f.value ->> 1) + 1 and k.state = 'deferred'
 where not exists (select 1 from reveille_trigger t where t.task_id = k.id)
returning task_id;
