-- Swaps one running task for a wait: for a next step (a new turn), or for the same step again (a retry, a snooze).
--  $1 now  $2 me
--  task: $3 id  $4 generation  $5 step (null: the same again)  $6 attempt  $7 why
--  wait: $8 kind  $9 passive  $10 spec  $11 wake at  $12 deadline at  $13 it is fixed  $14 or resume  $15 error budget
-- The keys of the wait are inserted one by one, by the caller. Each statement after the first finds the task as the
-- first left it.
update reveille_task
   set state = 'deferred', holder = null, generation = generation + 1,
       step = coalesce($5, step),
       event = case when $5 is null then event end,
       progress = case when $5 is null then progress end,
       turn = turn + ($5 is not null),
       crashes = case when $5 is null then crashes else 0 end,
       attempt = $6
 where id = $3 and generation = $4 and state = 'running' and holder = $2
   and cancel_requested_at is null
   and exists (select 1 from reveille_replica r where r.incarnation = $2 and r.gone_at is null);

insert into reveille_trigger (task_id, generation, kind, passive, queue, priority, spec, since, wake_at, deadline_at,
                              deadline_is_fixed, or_resume, error_budget, deaths)
select id, generation, $8, $9, queue, priority, $10, $1, $11, $12, $13, $14, $15, 0
  from reveille_task where id = $3 and changes() = 1;

insert into reveille_history (day, task_id, at, generation, turn, attempt, was, became, why, who)
select $1 / 86400000 % 32, id, $1, generation, turn, attempt, 'running', 'deferred', $7, $2
  from reveille_task where id = $3 and changes() = 1
returning task_id;
