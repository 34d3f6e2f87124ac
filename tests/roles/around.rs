//! What every trigger gets from the runtime around its checks: lanes, spacing, and what the configuration says.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use reveille::{
    NewTask, defer, done, done_with,
    http::Http,
    store::replica,
    trigger::{Answer, Config, Context, Error, Event, Spacing, Trigger, async_trait, typetag},
    triggerer::Settings,
    worker,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::stage::{
    Anchored, Gate, Kind, Plain, Script, Scripted, Seen, Stage, logged, ms, patient, quick, result, until,
};

fn task() -> NewTask {
    NewTask::of(&Script::<Plain>::of(|_, _| async { Ok(done()) })).unwrap()
}

fn connection(table: Value) -> Config {
    Config::new(BTreeMap::from([("api".to_owned(), table)]), BTreeMap::new())
}

/// Fires what a connection of the configuration says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reads {}

#[typetag::serde(name = "reads")]
#[async_trait]
impl Trigger for Reads {
    async fn check(&self, cx: &Context) -> Result<Answer, Error> {
        let said: BTreeMap<String, String> = cx.config().connection("api")?;
        Ok(Answer::Fire(Event::resume(said)?))
    }

    fn spacing(&self) -> Spacing {
        Spacing::every(ms(20))
    }
}

/// Waits for this, and ends with what it fired.
fn waiter<A: Kind>(trigger: impl Trigger + Clone + 'static) -> Script<A> {
    Script::of(move |step, cx| {
        let trigger = trigger.clone();
        async move {
            Ok(match step.at {
                0 => defer(trigger).then(step.next()),
                _ => done_with(cx.event::<Value>()?),
            })
        }
    })
}

both!(
    async fn a_slow_destination_holds_up_its_own_checks_and_no_others(stage: Stage) {
        let settings = Settings { checks_per_destination: 2, ..patient::triggerer() };
        let _triggerer = stage.triggerer(settings).await;
        let gate = Gate::shut();
        let mut slow = Vec::new();
        for _ in 0..5 {
            let gate = gate.clone();
            let (trigger, played) = Scripted::of(move |_| {
                let passed = gate.passed();
                async move {
                    passed.await;
                    Ok(Answer::Fire(Event::succeed("at last")?))
                }
            });
            slow.push((stage.store.enqueue(task().when(defer(trigger.to("slow:80")))).await.unwrap(), played));
        }
        let begun = || slow.iter().map(|(_, played)| played.times(Seen::Check)).sum::<usize>();
        until("the lane to be full", async || begun() == 2).await;
        for destination in ["quick:80", "other:80"] {
            let (quick, _) = Scripted::of(|_| async { Ok(Answer::Fire(Event::succeed("at once")?)) });
            let quick = stage.store.enqueue(task().when(defer(quick.to(destination)))).await.unwrap();
            stage.succeeded(quick).await;
        }
        assert_eq!(begun(), 2, "no more than two go to one destination");
        gate.open();
        for (task, _) in &slow {
            stage.succeeded(*task).await;
        }
    }
);

/// Could not tell at first, and was asked to stay away; then it fires. With when it was looked at.
fn impatient(stage: &Stage) -> (Scripted, Arc<Mutex<Vec<Duration>>>) {
    let times = Arc::new(Mutex::new(Vec::new()));
    let (noted, clock) = (Arc::clone(&times), stage.clock().clone());
    let (trigger, _) = Scripted::of(move |before| {
        noted.lock().unwrap().push(clock.monotonic());
        async move {
            match before {
                0 => Err(Error::again("too many requests").after(ms(1_500))),
                _ => Ok(Answer::Fire(Event::resume(1)?)),
            }
        }
    });
    (trigger.every(ms(5)), times)
}

both!(
    async fn an_answer_that_asks_for_patience_is_given_it_wherever_the_task_waits(stage: Stage) {
        let _triggerer = stage.triggerer(patient::triggerer()).await;
        let _worker = stage.worker(patient::worker()).await;
        let ((deferred, first), (in_slot, second)) = (impatient(&stage), impatient(&stage));
        let waits = stage.enqueue(&waiter::<Plain>(deferred)).await;
        let holds = stage.enqueue(&waiter::<Anchored>(in_slot)).await;
        for (task, times) in [(waits, first), (holds, second)] {
            stage.succeeded(task).await;
            let times = times.lock().unwrap();
            assert!(times.len() == 2 && times[1] - times[0] >= ms(1_500), "{times:?}");
            let said = logged(&["WARN", &format!("of task {task} could not tell: too many requests")]);
            assert_eq!(said.len(), 1, "{said:?}");
        }
    }
);

both!(
    async fn what_changes_hands_is_not_checked_all_at_once(stage: Stage) {
        let times = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for _ in 0..60 {
            let (noted, clock) = (Arc::clone(&times), stage.clock().clone());
            let (trigger, _) = Scripted::of(move |_| {
                noted.lock().unwrap().push(clock.monotonic());
                async { Ok(Answer::Fire(Event::succeed(1)?)) }
            });
            tasks.push(task().when(defer(trigger.every(Duration::from_secs(2)))));
        }
        let tasks = stage.store.enqueue_all(tasks).await.unwrap();
        let before = stage.silent(replica::Role::Triggerer, "before").await;
        stage.alter("update reveille_trigger set holder = $1", &[before.0]).await;
        let left = "update reveille_replica set gone_at = seen_at, gone_why = 'left' where incarnation = $1";
        stage.alter(left, &[before.0]).await;
        let _triggerer = stage.triggerer(patient::triggerer()).await;
        for task in tasks {
            stage.succeeded(task).await;
        }
        let mut times = times.lock().unwrap().clone();
        times.sort_unstable();
        assert!(times[59] - times[0] >= ms(1_000), "they came within {:?}", times[59] - times[0]);
    }
);

both!(
    async fn a_trigger_reads_its_connection_wherever_it_waits(stage: Stage) {
        let config = connection(json!({ "bearer": "abc" }));
        let _triggerer = stage.triggerer(Settings { config: config.clone(), ..patient::triggerer() }).await;
        let _worker = stage.worker(worker::Settings { config, ..patient::worker() }).await;
        let deferred = stage.enqueue(&waiter::<Plain>(Reads {})).await;
        let in_slot = stage.enqueue(&waiter::<Anchored>(Reads {})).await;
        for task in [deferred, in_slot] {
            assert_eq!(result(&stage.succeeded(task).await), json!({ "bearer": "abc" }));
        }
    }
);

both!(
    async fn a_url_is_polled_until_it_answers_as_it_should(stage: Stage) {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", server.local_addr().unwrap());
        let heads = Arc::new(Mutex::new(Vec::new()));
        let asked = Arc::clone(&heads);
        tokio::spawn(async move {
            for status in ["503 Service Unavailable", "200 OK", "200 OK"] {
                let (mut peer, _) = server.accept().await.unwrap();
                let mut head = vec![0; 4096];
                let length = peer.read(&mut head).await.unwrap();
                asked.lock().unwrap().push(String::from_utf8_lossy(&head[..length]).to_lowercase());
                let answer = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok");
                peer.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let config = connection(json!({ "url": url, "bearer": "abc" }));
        let _triggerer = stage.triggerer(Settings { config, ..patient::triggerer() }).await;
        let _worker = stage.worker(patient::worker()).await;
        let task = waiter::<Plain>(Http::get("/ready").connection("api").until(200).every(ms(50)));
        let task = stage.enqueue(&task).await;
        let seen = result(&stage.succeeded(task).await);
        assert_eq!((seen["status"].clone(), seen["body"].clone()), (json!(200), json!("ok")));
        let heads = heads.lock().unwrap();
        assert!(heads.iter().all(|head| head.starts_with("get /ready ") && head.contains("authorization: bearer abc")));
    }
);

both!(
    async fn a_wait_ends_badly_once_its_error_budget_is_spent(stage: Stage) {
        let _triggerer = stage.triggerer(patient::triggerer()).await;
        let _worker = stage.worker(patient::worker()).await;
        let three = NonZeroU32::new(3).unwrap();
        let blind = || {
            // Once in a while it can tell, and the count begins anew.
            let (trigger, played) = Scripted::of(|before| async move {
                if before == 2 { Ok(Answer::NotYet) } else { Err(Error::again("no route to it")) }
            });
            (trigger.every(ms(5)), played)
        };
        let ((deferred, first), (in_slot, second)) = (blind(), blind());
        let waits = stage.enqueue(&budgeted::<Plain>(deferred, three)).await;
        let holds = stage.enqueue(&budgeted::<Anchored>(in_slot, three)).await;
        for (task, played) in [(waits, first), (holds, second)] {
            let failed = result(&stage.succeeded(task).await);
            assert_eq!(failed["reason"], "errors");
            let said = failed["message"].as_str().unwrap();
            assert!(said.contains("3 checks in a row") && said.ends_with("no route to it"), "{said}");
            assert_eq!(played.times(Seen::Check), 6);
        }
    }
);

/// Ends with how its wait ended badly.
fn budgeted<A: Kind>(trigger: Scripted, budget: NonZeroU32) -> Script<A> {
    Script::of(move |step, cx| {
        let trigger = trigger.clone();
        async move {
            Ok(match step.at {
                0 => defer(trigger).error_budget(budget).or_resume().then(step.next()),
                _ => done_with(cx.wait_failed().expect("it ended badly").clone()),
            })
        }
    })
}

both!(
    async fn one_that_sleeps_past_its_deadline_is_looked_at_once_more(stage: Stage) {
        let _triggerer = stage.triggerer(patient::triggerer()).await;
        let (trigger, played) = Scripted::of(|before| async move {
            Ok(if before == 0 { Answer::NotYet } else { Answer::Fire(Event::succeed("at the last moment")?) })
        });
        let waits = task().when(defer(trigger.every(Duration::from_hours(1))).deadline(Duration::from_secs(2)));
        let waits = stage.store.enqueue(waits).await.unwrap();
        stage.succeeded(waits).await;
        assert_eq!(played.times(Seen::Check), 2);
    }
);

/// Says what it sees.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tells {}

#[typetag::serde(name = "tells")]
#[async_trait]
impl Trigger for Tells {
    async fn check(&self, cx: &Context) -> Result<Answer, Error> {
        cx.say("answered 503");
        Ok(Answer::NotYet)
    }

    fn spacing(&self) -> Spacing {
        Spacing::every(ms(20))
    }
}

both!(
    async fn what_checks_come_to_is_there_for_those_who_ask(stage: Stage) {
        let _triggerer = stage.triggerer(quick::triggerer("triggerer")).await;
        let (blind, _) = Scripted::of(|_| async { Err(Error::again("no route to it")) });
        let tells = stage.store.enqueue(task().when(defer(Tells {}))).await.unwrap();
        let blind = stage.store.enqueue(task().when(defer(blind))).await.unwrap();
        for (task, said, fails) in [(tells, "answered 503", false), (blind, "no route to it", true)] {
            let mut told = None;
            until("it to be told", async || {
                told = stage.whole(task).await.wait.and_then(|wait| wait.checked);
                told.is_some()
            })
            .await;
            let told = told.unwrap();
            assert_eq!(told.last.said.as_deref(), Some(said));
            assert!(told.checks >= 1 && (told.last.failures > 0) == fails, "{told:?}");
            assert!(told.last.next_at > told.last.at, "{told:?}");
        }
    }
);

/// Counts those that are alive.
struct Alive(Arc<AtomicUsize>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

both!(
    async fn a_check_that_lasts_ends_with_its_wait_also_where_the_next_comes_at_once(stage: Stage) {
        let _triggerer = stage.triggerer(quick::triggerer("triggerer")).await;
        let alive = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&alive);
        let (lasts, played) = Scripted::of(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            let alive = Alive(Arc::clone(&counted));
            async move {
                let _alive = alive;
                std::future::pending().await
            }
        });
        let task = NewTask::of(&Script::<Plain>::of(|_, _| async { Ok(done()) })).unwrap();
        let wait = defer(lasts.time_out(None)).deadline(ms(200));
        let task = stage.store.enqueue(task.when(wait)).await.unwrap();
        stage.until_state(task, "failed").await;
        until("no check to be alive", async || alive.load(Ordering::SeqCst) == 0).await;
        until("each to be let go of once", async || played.times(Seen::CleanUp) == played.times(Seen::Check)).await;
    }
);
