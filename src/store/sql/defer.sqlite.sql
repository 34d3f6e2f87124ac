-- Swaps running tasks for waits: for a next step (a new turn), or for the same step again (a retry, a snooze).
--  $1 now  $2 me  $3 keys, as a JSON array of [task, generation, key]
--  each task: $4 id  $5 generation  $6 step (null: the same again)  $7 attempt  $8 why
--  its wait:  $9 kind  $10 passive  $11 spec  $12 wake at  $13 deadline at  $14 it is fixed  $15 or resume  $16 error budget
-- A task that was cancelled meanwhile does not defer, nor does one that I no longer hold.
-- The first statement decides. Until the last, a task that it moved is the only kind that is deferred and has no trigger.
with f(id, generation, step, attempt) as (values ($4, $5, $6, $7))
update reveille_task as k
   set state = 'deferred', holder = null, generation = k.generation + 1,
       step = coalesce(f.step, k.step),
       event = case when f.step is null then k.event end,
       progress = case when f.step is null then k.progress end,
       turn = k.turn + (f.step is not null),
       crashes = case when f.step is null then k.crashes else 0 end,
       attempt = f.attempt
  from f
 where k.id = f.id and k.generation = f.generation and k.state = 'running' and k.holder = $2
   and k.cancel_requested_at is null
   and exists (select 1 from reveille_replica r where r.incarnation = $2 and r.gone_at is null);

with f(id, generation, why) as (values ($4, $5, $8))
insert into reveille_history (day, task_id, at, generation, turn, attempt, was, became, why, who)
select $1 / 86400000 % 32, k.id, $1, k.generation, k.turn, k.attempt, 'running', 'deferred', f.why, $2
  from f
       cross join reveille_task k on k.id = f.id and k.generation = f.generation + 1 and k.state = 'deferred'
 where not exists (select 1 from reveille_trigger t where t.task_id = k.id);

insert into reveille_wait_key (key, task_id, generation)
select x.value ->> 2, k.id, k.generation
  from json_each($3) x
       cross join reveille_task k on k.id = unhex(x.value ->> 0) and k.generation = (x.value ->> 1) + 1 and k.state = 'deferred'
 where not exists (select 1 from reveille_trigger t where t.task_id = k.id);

with f(id, generation, kind, passive, spec, wake_at, deadline_at, deadline_is_fixed, or_resume, error_budget) as
     (values ($4, $5, $9, $10, $11, $12, $13, $14, $15, $16))
insert into reveille_trigger (task_id, generation, kind, passive, queue, priority, spec, since, wake_at, deadline_at,
                              deadline_is_fixed, or_resume, error_budget, deaths)
select k.id, k.generation, f.kind, f.passive, k.queue, k.priority, f.spec, $1, f.wake_at, f.deadline_at, f.deadline_is_fixed,
       f.or_resume, f.error_budget, 0
  from f
       cross join reveille_task k on k.id = f.id and k.generation = f.generation + 1 and k.state = 'deferred'
 where not exists (select 1 from reveille_trigger t where t.task_id = k.id)
returning task_id;
