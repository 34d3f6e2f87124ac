-- Gives triggers of mine back, to be leased again from a time on.
--  $1 me
--  triggers: $2 task  $3 generation  $4 wake at
-- What somebody is ending at this moment is skipped, and not waited for: two who hold the same rows would wait for each
-- other. If it does not end after all, it is still mine.
with r as materialized (
       select * from unnest($2::uuid[], $3::integer[], $4::bigint[]) as r(id, generation, wake_at)),
     mine as materialized (
       select t.task_id, r.wake_at
         from r,
              lateral (select t.task_id
                         from reveille_trigger t
                        where t.task_id = r.id and t.generation = r.generation and t.holder = $1
                          for update skip locked) t)
update reveille_trigger t
   set holder = null, wake_at = m.wake_at
  from mine m
 where t.task_id = m.task_id
