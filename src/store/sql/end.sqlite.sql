-- Ends a batch of tasks, whoever ends them: the rows move to the finished, and what belonged to them goes.
--  $1 now
--  $2 ends, as a JSON array of
--     [task, generation, state it must be in, holder (null: none is needed; else the task's, or its trigger's, and live),
--      state it ends in, result begins at, result's length, why, event id, who]
--  $3 the bytes of all results
-- The first statement decides. Until the last, a task that it moved is the only kind that is both there and finished.
insert into reveille_finished (day, id, name, queue, origin, batch, state, priority, generation, turn, attempt, crashes,
                               max_attempts, backoff_ms, backoff_cap_ms, dedupe, slot_key, slot_limit, step, event, result, trace,
                               enqueued_at, finished_at)
select case f.value ->> 4 when 'failed' then -1 else $1 / 86400000 % 32 end, k.id, k.name, k.queue, k.origin, k.batch,
       f.value ->> 4, k.priority, k.generation + 1, k.turn, k.attempt, k.crashes, k.max_attempts, k.backoff_ms, k.backoff_cap_ms,
       k.dedupe, k.slot_key, k.slot_limit, case f.value ->> 4 when 'failed' then k.step end,
       case f.value ->> 4 when 'failed' then k.event end, substr($3, f.value ->> 5, f.value ->> 6), k.trace, k.enqueued_at, $1
  from json_each($2) f
       cross join reveille_task k on k.id = unhex(f.value ->> 0) and k.generation = f.value ->> 1 and k.state = f.value ->> 2
 where f.value ->> 3 is null
    or (unhex(f.value ->> 3) = case k.state when 'running' then k.holder
                                            else (select t.holder from reveille_trigger t where t.task_id = k.id) end
        and exists (select 1 from reveille_replica r where r.incarnation = unhex(f.value ->> 3) and r.gone_at is null))
returning id, slot_key;

insert into reveille_history (day, task_id, at, generation, turn, attempt, was, became, why, event, who)
select $1 / 86400000 % 32, k.id, $1, k.generation + 1, k.turn, k.attempt, k.state, f.value ->> 4, f.value ->> 7,
       unhex(f.value ->> 8), unhex(f.value ->> 9)
  from json_each($2) f
       cross join reveille_task k on k.id = unhex(f.value ->> 0) and k.generation = f.value ->> 1
 where exists (select 1 from reveille_finished x where x.id = k.id);

insert into reveille_undo (task_id, generation, kind, queue, spec, since, wake_at, attempt)
select t.task_id, t.generation, t.kind, t.queue, t.spec, t.since, $1, 1
  from json_each($2) f
       cross join reveille_trigger t on t.task_id = unhex(f.value ->> 0) and t.generation = f.value ->> 1
 where f.value ->> 7 = 'cancelled' and t.passive = 0 and exists (select 1 from reveille_finished x where x.id = t.task_id);

delete from reveille_trigger
 where rowid in (select t.rowid
                   from json_each($2) f
                        cross join reveille_trigger t on t.task_id = unhex(f.value ->> 0) and t.generation = f.value ->> 1
                  where exists (select 1 from reveille_finished x where x.id = t.task_id));

delete from reveille_wait_key
 where rowid in (select w.rowid
                   from json_each($2) f
                        cross join reveille_wait_key w on w.task_id = unhex(f.value ->> 0) and w.generation = f.value ->> 1
                  where exists (select 1 from reveille_finished x where x.id = w.task_id));

delete from reveille_dedupe
 where rowid in (select d.rowid
                   from json_each($2) f
                        cross join reveille_task k on k.id = unhex(f.value ->> 0) and k.generation = f.value ->> 1
                                                  and k.dedupe is not null
                        cross join reveille_dedupe d on d.name = k.name and d.key = k.dedupe and d.task_id = k.id
                                                    and d."until" is null
                  where exists (select 1 from reveille_finished x where x.id = k.id));

delete from reveille_slot
 where rowid in (select s.rowid
                   from json_each($2) f
                        cross join reveille_slot s on s.task_id = unhex(f.value ->> 0)
                  where exists (select 1 from reveille_finished x where x.id = s.task_id));

delete from reveille_task
 where rowid in (select k.rowid
                   from json_each($2) f
                        cross join reveille_task k on k.id = unhex(f.value ->> 0) and k.generation = f.value ->> 1
                  where exists (select 1 from reveille_finished x where x.id = k.id));
