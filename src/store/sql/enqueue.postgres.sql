-- Stores a batch of tasks, with the wait of those that begin deferred. A task whose id exists is left as it is; the
-- caller looks for ids among the finished, before this and after it.
--  $1 now
--  tasks:    $2 id  $3 name  $4 queue  $5 origin  $6 batch  $7 priority  $8 ready at (null: begins deferred)  $9 expires at
--            $10 max attempts  $11 backoff ms  $12 backoff cap ms  $13 dedupe  $14 step  $15 trace  $16 slot key  $17 slot limit
--  waits:    $18 task  $19 kind  $20 passive  $21 spec  $22 wake at  $23 deadline at  $24 it is fixed  $25 or resume  $26 error budget
--  keys:     $27 task  $28 key
with n as materialized (
       select * from unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::uuid[], $7::smallint[], $8::bigint[], $9::bigint[],
                            $10::integer[], $11::bigint[], $12::bigint[], $13::text[], $14::bytea[], $15::text[],
                            $16::text[], $17::integer[])
         as n(id, name, queue, origin, batch, priority, ready_at, expires_at,
              max_attempts, backoff_ms, backoff_cap_ms, dedupe, step, trace, slot_key, slot_limit)),
     made as (
       insert into reveille_task (id, name, queue, origin, batch, state, priority, ready_at, expires_at, generation, turn, attempt,
                                  crashes, max_attempts, backoff_ms, backoff_cap_ms, dedupe, slot_key, slot_limit, step, trace,
                                  enqueued_at)
       select id, name, queue, origin, batch, case when ready_at is null then 'deferred' else 'ready' end, priority, ready_at,
              expires_at, 0, 0, 1, 0, max_attempts, backoff_ms, backoff_cap_ms, dedupe, slot_key, slot_limit, step, trace, $1
         from n
           on conflict (id) do nothing
       returning id, state, queue, priority),
     waits as (
       insert into reveille_trigger (task_id, generation, kind, passive, queue, priority, spec, since, wake_at, deadline_at,
                                     deadline_is_fixed, or_resume, error_budget, deaths)
       select m.id, 0, w.kind, w.passive, m.queue, m.priority, w.spec, $1, w.wake_at, w.deadline_at,
              w.deadline_is_fixed, w.or_resume, w.error_budget, 0
         from unnest($18::uuid[], $19::text[], $20::boolean[], $21::bytea[], $22::bigint[], $23::bigint[], $24::boolean[],
                     $25::boolean[], $26::integer[])
           as w(task_id, kind, passive, spec, wake_at, deadline_at, deadline_is_fixed, or_resume, error_budget)
         join made m on m.id = w.task_id),
     keys as (
       insert into reveille_wait_key (key, task_id, generation)
       select x.key, m.id, 0 from unnest($27::uuid[], $28::text[]) as x(task_id, key) join made m on m.id = x.task_id),
     told as (
       insert into reveille_history (day, task_id, at, generation, turn, attempt, was, became, why)
       select $1 / 86400000 % 32, id, $1, 0, 0, 1, null, state, 'enqueued' from made)
select id from made
