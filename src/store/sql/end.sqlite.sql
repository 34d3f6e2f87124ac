-- Ends one task, whoever ends it: the row moves to the finished, and what belonged to it goes.
--  $1 now  $2 task  $3 generation  $4 state it must be in
--  $5 holder (null: none is needed; else the task's, or its trigger's, and live)
--  $6 state it ends in  $7 result  $8 why  $9 event id  $10 who
-- The first statement decides; the others act on what it moved.
insert into reveille_finished (day, id, name, queue, origin, batch, state, priority, generation, turn, attempt, crashes,
                               max_attempts, backoff_ms, backoff_cap_ms, dedupe, slot_key, slot_limit, step, event, result, trace,
                               enqueued_at, finished_at)
select case $6 when 'failed' then -1 else $1 / 86400000 % 32 end, k.id, k.name, k.queue, k.origin, k.batch, $6, k.priority,
       k.generation + 1, k.turn, k.attempt, k.crashes, k.max_attempts, k.backoff_ms, k.backoff_cap_ms, k.dedupe, k.slot_key, k.slot_limit,
       case $6 when 'failed' then k.step end, case $6 when 'failed' then k.event end, $7, k.trace, k.enqueued_at, $1
  from reveille_task k
 where k.id = $2 and k.generation = $3 and k.state = $4
   and ($5 is null or (
         $5 = case $4 when 'running' then k.holder else (select t.holder from reveille_trigger t where t.task_id = k.id) end
         and exists (select 1 from reveille_replica r where r.incarnation = $5 and r.gone_at is null)))
returning id, slot_key;

delete from reveille_task
 where id = $2 and generation = $3 and changes() = 1;

insert into reveille_history (day, task_id, at, generation, turn, attempt, was, became, why, event, who)
select $1 / 86400000 % 32, id, $1, generation, turn, attempt, $4, state, $8, $9, $10
  from reveille_finished where id = $2 and changes() = 1;

insert into reveille_undo (task_id, generation, kind, queue, spec, since, wake_at, attempt)
select t.task_id, t.generation, t.kind, t.queue, t.spec, t.since, $1, 1
  from reveille_trigger t
 where t.task_id = $2 and t.generation = $3 and t.passive = 0 and $8 = 'cancelled'
   and not exists (select 1 from reveille_task where id = $2);

delete from reveille_trigger
 where task_id = $2 and generation = $3 and not exists (select 1 from reveille_task where id = $2);

delete from reveille_wait_key
 where task_id = $2 and generation = $3 and not exists (select 1 from reveille_task where id = $2);

delete from reveille_dedupe
 where "until" is null and task_id = $2
   and (name, key) = (select f.name, f.dedupe from reveille_finished f where f.id = $2 and f.dedupe is not null)
   and not exists (select 1 from reveille_task where id = $2);

delete from reveille_slot
 where task_id = $2 and not exists (select 1 from reveille_task where id = $2);
