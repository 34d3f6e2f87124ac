-- Tells of the triggers of mine for which something has come, and that I have been told.
--  $1 me  $2 how many
-- There is one writer, so nothing is locked or skipped.
update reveille_trigger
   set told = arrivals
 where rowid in (select rowid from reveille_trigger where holder = $1 and arrivals > told limit $2)
returning task_id, generation
