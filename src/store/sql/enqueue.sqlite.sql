-- Stores one task, with its wait if it begins deferred. A task whose id exists, unfinished or finished, is left as it is.
--  $1 now
--  task: $2 id  $3 name  $4 queue  $5 origin  $6 batch  $7 priority  $8 ready at (null: begins deferred)  $9 expires at
--        $10 max attempts  $11 backoff ms  $12 backoff cap ms  $13 dedupe  $14 step  $15 trace  $16 slot key  $17 slot limit
--  wait: $18 kind (null: none)  $19 passive  $20 spec  $21 wake at  $22 deadline at  $23 it is fixed  $24 or resume  $25 error budget
-- The keys of the wait are inserted one by one, by enqueue_key.
insert into reveille_history (day, task_id, at, generation, turn, attempt, was, became, why)
select $1 / 86400000 % 32, $2, $1, 0, 0, 1, null, case when $8 is null then 'deferred' else 'ready' end, 'enqueued'
 where not exists (select 1 from reveille_task where id = $2)
   and not exists (select 1 from reveille_finished where id = $2);

insert into reveille_trigger (task_id, generation, kind, passive, queue, priority, spec, since, wake_at, deadline_at,
                              deadline_is_fixed, or_resume, error_budget, deaths)
select $2, 0, $18, $19, $4, $7, $20, $1, $21, $22, $23, $24, $25, 0
 where $18 is not null
   and not exists (select 1 from reveille_task where id = $2)
   and not exists (select 1 from reveille_finished where id = $2);

insert into reveille_task (id, name, queue, origin, batch, state, priority, ready_at, expires_at, generation, turn, attempt,
                           crashes, max_attempts, backoff_ms, backoff_cap_ms, dedupe, slot_key, slot_limit, step, trace, enqueued_at)
select $2, $3, $4, $5, $6, case when $8 is null then 'deferred' else 'ready' end, $7, $8, $9, 0, 0, 1, 0, $10, $11, $12, $13,
       $16, $17, $14, $15, $1
 where not exists (select 1 from reveille_finished where id = $2)
    on conflict (id) do nothing
returning id;
