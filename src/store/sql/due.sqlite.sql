-- Fires the passive waits that are due, without reading what they are.
--  $1 now  $2 who  $3 how many
-- Three statements on the same first rows of one index: nothing changes it between them but themselves, and the
-- triggers go last.
insert into reveille_history (day, task_id, at, generation, turn, attempt, was, became, why, who)
select $1 / 86400000 % 32, k.id, $1, k.generation + 1, k.turn, k.attempt, 'deferred', 'ready', 'due', $2
  from (select task_id, generation from reveille_trigger where passive = 1 and wake_at <= $1 order by wake_at, task_id limit $3) d
       cross join reveille_task k on k.id = d.task_id and k.generation = d.generation and k.state = 'deferred';

update reveille_task
   set state = 'ready', generation = generation + 1, ready_at = coalesce(ready_at, $1)
 where state = 'deferred'
   and id in (select task_id from reveille_trigger where passive = 1 and wake_at <= $1 order by wake_at, task_id limit $3);

delete from reveille_trigger
 where rowid in (select rowid from reveille_trigger where passive = 1 and wake_at <= $1 order by wake_at, task_id limit $3)
returning task_id;
