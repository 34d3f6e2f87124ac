-- Resumes a batch of deferred tasks with what their waits ended with: the waits go, the tasks move, the events are kept.
--  $1 now  $2 who
--  $3 events, as a JSON array of [task, generation, event begins at, event's length, event id, why]  $4 the bytes of all events
-- This is evidence, which is taken from anybody.
-- All statements see the same waits: only the last takes them away.
insert into reveille_history (day, task_id, at, generation, turn, attempt, was, became, why, event, who)
select $1 / 86400000 % 32, k.id, $1, k.generation + 1, k.turn, k.attempt, 'deferred', 'ready', f.value ->> 5,
       unhex(f.value ->> 4), $2
  from json_each($3) f
       cross join reveille_trigger t on t.task_id = unhex(f.value ->> 0) and t.generation = f.value ->> 1
       cross join reveille_task k on k.id = t.task_id and k.generation = t.generation and k.state = 'deferred';

update reveille_task as k
   set state = 'ready', generation = k.generation + 1, ready_at = coalesce(k.ready_at, $1),
       event = substr($4, f.value ->> 2, f.value ->> 3)
  from json_each($3) f
       cross join reveille_trigger t on t.task_id = unhex(f.value ->> 0) and t.generation = f.value ->> 1
 where k.id = t.task_id and k.generation = t.generation and k.state = 'deferred'
returning id;

delete from reveille_wait_key
 where rowid in (select w.rowid
                   from json_each($3) f
                        cross join reveille_wait_key w on w.task_id = unhex(f.value ->> 0) and w.generation = f.value ->> 1);

delete from reveille_trigger
 where rowid in (select t.rowid
                   from json_each($3) f
                        cross join reveille_trigger t on t.task_id = unhex(f.value ->> 0) and t.generation = f.value ->> 1);
