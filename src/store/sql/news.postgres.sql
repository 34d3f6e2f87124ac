-- Tells of the triggers of mine for which something has come, and that I have been told.
--  $1 me  $2 how many
-- Walks a range of the index, as at take_over.
-- What somebody is ending, or bringing more to, at this moment is skipped, as at release: the next look has it.
with n as materialized (
       select t.task_id from reveille_trigger t
        where t.holder between $1 and $1 and t.arrivals > t.told
        order by t.holder
        limit $2
          for update skip locked)
update reveille_trigger t
   set told = arrivals
  from n
 where t.task_id = n.task_id
returning t.task_id, t.generation
