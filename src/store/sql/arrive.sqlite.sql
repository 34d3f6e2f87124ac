-- Keeps what has come under a key with one wait that looks at more than that, and has it looked at.
--  $1 now  $2 key  $3 what has come  $4 task  $5 generation
-- What has come first stays.
update reveille_wait_key
   set arrived = $3
 where key = $2 and task_id = $4 and generation = $5 and arrived is null;

update reveille_trigger
   set arrivals = arrivals + 1, wake_at = min(coalesce(wake_at, $1), $1)
 where task_id = $4 and generation = $5 and changes() = 1
returning task_id
