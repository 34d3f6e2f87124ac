-- Swaps running tasks for waits: for a next step (a new turn), or for the same step again (a retry, a snooze).
--  $1 now  $2 me
--  tasks: $3 id  $4 generation  $5 step (null: the same again)  $6 attempt  $7 why
--  waits: $8 kind  $9 passive  $10 spec  $11 wake at  $12 deadline at  $13 it is fixed  $14 or resume  $15 error budget
--         (one a task, same order)
--  keys:  $16 task  $17 key
-- A task that was cancelled meanwhile does not defer, nor does one that I no longer hold. Both are asked in a `case`, which the
-- planner takes for true of half of all rows: by the conditions themselves it would expect next to none, and compare each task
-- that I hold with each of the batch.
with d as materialized (
       select * from unnest($3::uuid[], $4::integer[], $5::bytea[], $6::integer[], $7::text[],
                            $8::text[], $9::boolean[], $10::bytea[], $11::bigint[], $12::bigint[], $13::boolean[], $14::boolean[],
                            $15::integer[])
         as d(id, generation, step, attempt, why, kind, passive, spec, wake_at, deadline_at, deadline_is_fixed, or_resume,
              error_budget)),
     held as materialized (select k.id from reveille_task k where k.id = any($3) order by k.id for update),
     moved as (
       update reveille_task k
          set state = 'deferred', holder = null, generation = k.generation + 1,
              step = coalesce(d.step, k.step),
              event = case when d.step is null then k.event end,
              progress = case when d.step is null then k.progress end,
              turn = k.turn + (d.step is not null)::integer,
              crashes = case when d.step is null then k.crashes else 0 end,
              attempt = d.attempt
         from d
        where k.id = d.id and k.generation = d.generation
          and case when k.state = 'running' and k.holder = $2 and k.cancel_requested_at is null then true end
          and (select count(*) from held) >= 0
          and exists (select 1 from reveille_replica r where r.incarnation = $2 and r.gone_at is null)
       returning k.id, k.generation, k.turn, k.attempt, k.queue, k.priority,
                 d.why, d.kind, d.passive, d.spec, d.wake_at, d.deadline_at, d.deadline_is_fixed, d.or_resume,
                 d.error_budget),
     waits as (
       insert into reveille_trigger (task_id, generation, kind, passive, queue, priority, spec, since, wake_at, deadline_at,
                                     deadline_is_fixed, or_resume, error_budget, deaths)
       select id, generation, kind, passive, queue, priority, spec, $1, wake_at, deadline_at, deadline_is_fixed, or_resume,
              error_budget, 0
         from moved),
     keys as (
       insert into reveille_wait_key (key, task_id, generation)
       select x.key, m.id, m.generation from unnest($16::uuid[], $17::text[]) as x(task_id, key) join moved m on m.id = x.task_id),
     told as (
       insert into reveille_history (day, task_id, at, generation, turn, attempt, was, became, why, who)
       select $1 / 86400000 % 32, id, $1, generation, turn, attempt, 'running', 'deferred', why, $2 from moved)
select id from moved
