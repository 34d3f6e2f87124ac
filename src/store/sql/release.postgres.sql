-- Gives triggers of mine back, to be leased again from a time on; one for which more has come than its last check knew of,
-- from when that came.
--  $1 me
--  triggers: $2 task  $3 generation  $4 wake at  $5 how much its last check knew of
-- What somebody is ending, or bringing more to, at this moment is skipped, and not waited for: two who hold the same rows
-- would wait for each other. It is still mine then, and found to be. Holders are compared so that they are not looked for by
-- their index: one may hold a million.
with r as materialized (
       select * from unnest($2::uuid[], $3::integer[], $4::bigint[], $5::integer[]) as r(id, generation, wake_at, known)),
     mine as materialized (
       select t.task_id, r.wake_at, r.known
         from r,
              lateral (select t.task_id
                         from reveille_trigger t
                        where t.task_id = r.id and t.generation = r.generation and t.holder is not distinct from $1
                          for update skip locked) t)
update reveille_trigger t
   set holder = null, wake_at = case when t.arrivals > m.known then t.wake_at else m.wake_at end
  from mine m
 where t.task_id = m.task_id
