-- Ends a batch of tasks, whoever ends them: the rows move to the finished, and what belonged to them goes.
--  $1 now
--  each end: $2 task  $3 generation  $4 state it must be in
--            $5 holder (null: none is needed; else the task's, or its trigger's, and live)
--            $6 state it ends in  $7 result  $8 why  $9 event id  $10 who
-- The first statement decides. Until the last, a task that it moved is the only kind that is both there and finished.
with f(id, generation, was, holder, state, result) as (values ($2, $3, $4, $5, $6, $7))
insert into reveille_finished (day, id, name, queue, origin, batch, state, priority, generation, turn, attempt, crashes,
                               max_attempts, backoff_ms, backoff_cap_ms, dedupe, slot_key, slot_limit, step, event, result, trace,
                               enqueued_at, finished_at)
select case f.state when 'failed' then -1 else $1 / 86400000 % 32 end, k.id, k.name, k.queue, k.origin, k.batch, f.state,
       k.priority, k.generation + 1, k.turn, k.attempt, k.crashes, k.max_attempts, k.backoff_ms, k.backoff_cap_ms, k.dedupe,
       k.slot_key, k.slot_limit, case f.state when 'failed' then k.step end, case f.state when 'failed' then k.event end,
       f.result, k.trace, k.enqueued_at, $1
  from f
       cross join reveille_task k on k.id = f.id and k.generation = f.generation and k.state = f.was
 where f.holder is null
    or (f.holder = case f.was when 'running' then k.holder
                              else (select t.holder from reveille_trigger t where t.task_id = k.id) end
        and exists (select 1 from reveille_replica r where r.incarnation = f.holder and r.gone_at is null))
returning id, slot_key;

with f(id, generation, was, state, why, event_id, who) as (values ($2, $3, $4, $6, $8, $9, $10))
insert into reveille_history (day, task_id, at, generation, turn, attempt, was, became, why, event, who)
select $1 / 86400000 % 32, k.id, $1, k.generation + 1, k.turn, k.attempt, f.was, f.state, f.why, f.event_id, f.who
  from f
       cross join reveille_task k on k.id = f.id and k.generation = f.generation
 where exists (select 1 from reveille_finished x where x.id = k.id);

with f(id, generation, why) as (values ($2, $3, $8))
insert into reveille_undo (task_id, generation, kind, queue, spec, since, wake_at, attempt)
select t.task_id, t.generation, t.kind, t.queue, t.spec, t.since, $1, 1
  from f
       cross join reveille_trigger t on t.task_id = f.id and t.generation = f.generation
 where f.why = 'cancelled' and t.passive = 0 and exists (select 1 from reveille_finished x where x.id = t.task_id);

with f(id, generation) as (values ($2, $3))
delete from reveille_trigger
 where rowid in (select t.rowid
                   from f cross join reveille_trigger t on t.task_id = f.id and t.generation = f.generation
                  where exists (select 1 from reveille_finished x where x.id = t.task_id));

with f(id, generation) as (values ($2, $3))
delete from reveille_wait_key
 where rowid in (select w.rowid
                   from f cross join reveille_wait_key w on w.task_id = f.id and w.generation = f.generation
                  where exists (select 1 from reveille_finished x where x.id = w.task_id));

with f(id, generation) as (values ($2, $3))
delete from reveille_dedupe
 where rowid in (select d.rowid
                   from f
                        cross join reveille_task k on k.id = f.id and k.generation = f.generation and k.dedupe is not null
                        cross join reveille_dedupe d on d.name = k.name and d.key = k.dedupe and d.task_id = k.id
                                                    and d."until" is null
                  where exists (select 1 from reveille_finished x where x.id = k.id));

with f(id) as (values ($2))
delete from reveille_slot
 where rowid in (select s.rowid
                   from f cross join reveille_slot s on s.task_id = f.id
                  where exists (select 1 from reveille_finished x where x.id = s.task_id));

with f(id, generation) as (values ($2, $3))
delete from reveille_task
 where rowid in (select k.rowid
                   from f cross join reveille_task k on k.id = f.id and k.generation = f.generation
                  where exists (select 1 from reveille_finished x where x.id = k.id));
