-- Stores a batch of tasks, with the waits of those that begin deferred. A task whose id exists, unfinished or finished, is left
-- as it is.
--  $1 now  $2 keys, as a JSON array of [task, key]
--  each task: $3 id  $4 name  $5 queue  $6 origin  $7 batch  $8 priority  $9 ready at (null: begins deferred)  $10 expires at
--             $11 max attempts  $12 backoff ms  $13 backoff cap ms  $14 dedupe  $15 step  $16 trace  $17 slot key  $18 slot limit
--  its wait:  $19 kind (null: none)  $20 passive  $21 spec  $22 wake at  $23 deadline at  $24 it is fixed  $25 or resume
--             $26 error budget
-- All statements see the same tasks: only the last adds any.
with f(id, ready_at) as (values ($3, $9))
insert into reveille_history (day, task_id, at, generation, turn, attempt, was, became, why)
select $1 / 86400000 % 32, f.id, $1, 0, 0, 1, null, case when f.ready_at is null then 'deferred' else 'ready' end, 'enqueued'
  from f
 where not exists (select 1 from reveille_task k where k.id = f.id)
   and not exists (select 1 from reveille_finished x where x.id = f.id);

with f(id, queue, priority, kind, passive, spec, wake_at, deadline_at, deadline_is_fixed, or_resume, error_budget) as
     (values ($3, $5, $8, $19, $20, $21, $22, $23, $24, $25, $26))
insert into reveille_trigger (task_id, generation, kind, passive, queue, priority, spec, since, wake_at, deadline_at,
                              deadline_is_fixed, or_resume, error_budget, deaths)
select f.id, 0, f.kind, f.passive, f.queue, f.priority, f.spec, $1, f.wake_at, f.deadline_at, f.deadline_is_fixed, f.or_resume,
       f.error_budget, 0
  from f
 where f.kind is not null
   and not exists (select 1 from reveille_task k where k.id = f.id)
   and not exists (select 1 from reveille_finished x where x.id = f.id);

insert into reveille_wait_key (key, task_id, generation)
select x.value ->> 1, unhex(x.value ->> 0), 0
  from json_each($2) x
 where not exists (select 1 from reveille_task k where k.id = unhex(x.value ->> 0))
   and not exists (select 1 from reveille_finished e where e.id = unhex(x.value ->> 0));

with f(id, name, queue, origin, batch, priority, ready_at, expires_at, max_attempts, backoff_ms, backoff_cap_ms, dedupe, step,
       trace, slot_key, slot_limit) as
     (values ($3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18))
insert into reveille_task (id, name, queue, origin, batch, state, priority, ready_at, expires_at, generation, turn, attempt,
                           crashes, max_attempts, backoff_ms, backoff_cap_ms, dedupe, slot_key, slot_limit, step, trace, enqueued_at)
select f.id, f.name, f.queue, f.origin, f.batch, case when f.ready_at is null then 'deferred' else 'ready' end, f.priority,
       f.ready_at, f.expires_at, 0, 0, 1, 0, f.max_attempts, f.backoff_ms, f.backoff_cap_ms, f.dedupe, f.slot_key, f.slot_limit,
       f.step, f.trace, $1
  from f
 where not exists (select 1 from reveille_finished x where x.id = f.id)
    on conflict (id) do nothing
returning id;
