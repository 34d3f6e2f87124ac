//! Triggerers share the work in proportion to their capacities, and what they hold moves only when one joins or is off its share.

use std::{collections::HashMap, sync::Arc, time::Duration};

use reveille::{
    NewTask, defer, done,
    id::Incarnation,
    store::{
        Db,
        replica::{self, Card},
    },
    trigger::{Answer, Event},
    triggerer::Settings,
};
use uuid::Uuid;

use crate::stage::{Gate, Plain, Played, Role, Script, Scripted, Seen, Stage, ms, patient, quick, until};

/// How far apart checks are: far enough that most triggers are between two at any time.
const EVERY: Duration = ms(500);

fn settings(label: &str, capacity: usize) -> Settings {
    Settings { capacity, ..quick::triggerer(label) }
}

/// Which replica of which label holds a task's trigger; none for what is free.
type Holders = HashMap<Uuid, Option<String>>;

fn share_of(holders: &Holders, label: &str) -> usize {
    holders.values().filter(|holder| holder.as_deref() == Some(label)).count()
}

/// So many triggers that never fire, on this queue.
async fn add(stage: &Stage, count: usize, queue: &str) -> Vec<Arc<Played>> {
    let (tasks, played): (Vec<_>, Vec<_>) = (0..count)
        .map(|_| {
            let (trigger, played) = Scripted::never();
            let task = NewTask::of(&Script::<Plain>::of(|_, _| async { Ok(done()) })).unwrap();
            (task.queue(queue).when(defer(trigger.every(EVERY))), played)
        })
        .unzip();
    stage.store.enqueue_all(tasks).await.unwrap();
    played
}

impl Stage {
    async fn holders(&self) -> Holders {
        let text = "select t.task_id, r.label from reveille_trigger t
                      left join reveille_replica r on r.incarnation = t.holder and r.gone_at is null";
        let mut tx = self.store.read().await.unwrap();
        let rows: Vec<(Uuid, Option<String>)> = match tx.db() {
            Db::Sqlite(c) => sqlx::query_as(text).fetch_all(c).await.unwrap(),
            Db::Postgres(c) => sqlx::query_as(text).fetch_all(c).await.unwrap(),
        };
        tx.commit().await.unwrap();
        rows.into_iter().collect()
    }

    /// How many triggers were given back each time.
    async fn given_back(&self) -> Vec<i64> {
        let text =
            "select count(*) from reveille_trigger where wake_at > since + 1000 group by wake_at order by wake_at";
        let mut tx = self.store.read().await.unwrap();
        let counts = match tx.db() {
            Db::Sqlite(c) => sqlx::query_scalar(text).fetch_all(c).await.unwrap(),
            Db::Postgres(c) => sqlx::query_scalar(text).fetch_all(c).await.unwrap(),
        };
        tx.commit().await.unwrap();
        counts
    }

    /// Waits until all have waited for so long that they may move.
    async fn have_waited(&self) {
        let latest = self.count("select max(since) from reveille_trigger").await;
        until("them to have waited", async || self.clock().now_ms() > latest + 1_000).await;
    }

    /// Waits until each of these has renewed this often more: each looks at the others soon after it does.
    async fn renewed(&self, labels: &[&str], times: i64) {
        for label in labels {
            let before = self.live(label).await.beat;
            until("it to renew", async || self.live(label).await.beat >= before + times).await;
        }
    }
}

both!(
    async fn what_is_free_goes_to_replicas_in_proportion_to_their_capacity(stage: Stage) {
        let _replicas = [stage.triggerer(settings("small", 300)).await, stage.triggerer(settings("large", 600)).await];
        stage.renewed(&["small", "large"], 3).await;
        for (count, all) in [(150, 150), (150, 300), (60, 360)] {
            add(&stage, count, "default").await;
            until("all to be held", async || stage.held().await == all).await;
        }
        let holders = stage.holders().await;
        let (small, large) = (share_of(&holders, "small"), share_of(&holders, "large"));
        assert!((114..=126).contains(&small) && (228..=252).contains(&large), "{small} and {large}");
        assert_eq!(stage.given_back().await, [0; 0], "they were taken so at once");
    }
);

both!(
    async fn when_a_replica_joins_a_tenth_of_its_share_moves_each_renewal_and_no_trigger_twice(stage: Stage) {
        let _first = stage.triggerer(settings("first", 400)).await;
        let played = add(&stage, 200, "default").await;
        until("all to be held", async || stage.held().await == 200).await;
        stage.have_waited().await;
        let _second = stage.triggerer(settings("second", 400)).await;
        let joined_at = stage.live("first").await.beat;
        let (mut before, mut moves) = (stage.holders().await, HashMap::<Uuid, usize>::new());
        until("both to have their shares", async || {
            let now = stage.holders().await;
            for (task, holder) in &now {
                if holder.is_some() && *holder != before[task] {
                    *moves.entry(*task).or_default() += 1;
                    before.insert(*task, holder.clone());
                }
            }
            share_of(&now, "second") == 100
        })
        .await;
        // It looks at the others when it has renewed, and the last of what it gives back is to be taken yet.
        let took = stage.live("first").await.beat - joined_at;
        assert!(took <= 11, "{took} renewals");
        assert_eq!((moves.len(), moves.values().max()), (100, Some(&1)));
        assert_eq!(stage.given_back().await, [10; 10]);
        let let_go: Vec<usize> = played.iter().map(|played| played.times(Seen::CleanUp)).collect();
        assert_eq!((let_go.iter().sum::<usize>(), let_go.iter().max()), (100, Some(&1)));

        stage.renewed(&["first"], 20).await;
        assert!(stage.holders().await == before, "what is settled stays where it is");
        assert_eq!(stage.given_back().await.len(), 10);
    }
);

/// So many triggers, each of which fires once its gate is open; by the tasks that wait.
async fn add_gated(stage: &Stage, count: usize) -> HashMap<Uuid, Gate> {
    let mut gates = HashMap::new();
    for _ in 0..count {
        let gate = Gate::shut();
        let opens = gate.clone();
        let (trigger, _) = Scripted::of(move |_| {
            let is_open = opens.is_open();
            async move { Ok(if is_open { Answer::Fire(Event::succeed(1)?) } else { Answer::NotYet }) }
        });
        let task = NewTask::of(&Script::<Plain>::of(|_, _| async { Ok(done()) })).unwrap();
        gates.insert(stage.store.enqueue(task.when(defer(trigger.every(ms(100))))).await.unwrap().0, gate);
    }
    until("all to be held", async || stage.held().await == count as i64).await;
    gates
}

/// All that this replica holds now fires.
async fn fire_those_of(stage: &Stage, label: &str, gates: &HashMap<Uuid, Gate>) {
    let holders = stage.holders().await;
    let its: Vec<&Uuid> = gates.keys().filter(|task| holders[task].as_deref() == Some(label)).collect();
    its.iter().for_each(|task| gates[*task].open());
    until("them to have fired", async || {
        let left = stage.holders().await;
        its.iter().all(|task| !left.contains_key(task))
    })
    .await;
}

both!(
    async fn what_one_holds_too_much_of_moves_without_anybody_joining(stage: Stage) {
        let _replicas = [stage.triggerer(settings("one", 400)).await, stage.triggerer(settings("two", 400)).await];
        stage.renewed(&["one", "two"], 3).await;
        let gates = add_gated(&stage, 40).await;
        stage.have_waited().await;
        fire_those_of(&stage, "two", &gates).await;
        until("both to have their shares", async || share_of(&stage.holders().await, "two") == 10).await;
    }
);

both!(
    async fn no_trigger_moves_again_before_another_replica_joins(stage: Stage) {
        let _first = stage.triggerer(settings("first", 400)).await;
        let gates = add_gated(&stage, 40).await;
        stage.have_waited().await;
        let _second = stage.triggerer(settings("second", 400)).await;
        until("half of them to move", async || share_of(&stage.holders().await, "second") == 20).await;
        fire_those_of(&stage, "first", &gates).await;
        let before = stage.holders().await;
        stage.renewed(&["second"], 12).await;
        assert_eq!(stage.holders().await, before);
        let _third = stage.triggerer(settings("third", 400)).await;
        until("them to move again", async || share_of(&stage.holders().await, "second") <= 7).await;
    }
);

both!(
    async fn what_one_leaves_behind_is_shared_by_those_who_stay(stage: Stage) {
        let mut replicas = Vec::new();
        for label in ["one", "two", "three"] {
            replicas.push(stage.triggerer(settings(label, 400)).await);
        }
        stage.renewed(&["one", "two", "three"], 3).await;
        add(&stage, 300, "default").await;
        until("all to be held", async || stage.held().await == 300).await;
        let before = stage.holders().await;
        replicas.pop().unwrap().stop().await;
        until("all to be held again", async || stage.held().await == 300).await;
        let after = stage.holders().await;
        let (one, two) = (share_of(&after, "one"), share_of(&after, "two"));
        assert!((143..=157).contains(&one) && one + two == 300, "{one} and {two}");
        let stayed = before.iter().filter(|(task, holder)| after[*task] == **holder).count();
        assert_eq!(stayed, share_of(&before, "one") + share_of(&before, "two"), "nothing else moves");
    }
);

both!(
    async fn nobody_is_left_a_share_of_what_it_may_not_take(stage: Stage) {
        let only = |label: &str, queue: &str| Settings { queues: Some(vec![queue.to_owned()]), ..settings(label, 400) };
        let _replicas = [stage.triggerer(only("a", "a")).await, stage.triggerer(only("b", "b")).await];
        stage.renewed(&["a", "b"], 3).await;
        let begun = stage.clock().monotonic();
        add(&stage, 100, "a").await;
        add(&stage, 10, "b").await;
        add(&stage, 10, "nobody's").await;
        until("all that somebody may take to be held", async || stage.held().await == 110).await;
        let took = stage.clock().monotonic() - begun;
        println!("MEASURED taken after {took:?}");
        stage.renewed(&["a", "b"], 5).await;
        let holders = stage.holders().await;
        assert_eq!((share_of(&holders, "a"), share_of(&holders, "b")), (100, 10));
        assert_eq!(stage.given_back().await, [0; 0]);
    }
);

both!(
    async fn what_a_replica_leaves_alone_for_a_second_is_taken_by_the_others(stage: Stage) {
        let before = stage.triggerer(patient::triggerer()).await;
        let kinds = stage.live("triggerer").await.kinds;
        before.stop().await;
        let card = Card {
            incarnation: Incarnation::mint(),
            role: replica::Role::Triggerer,
            label: "takes nothing".to_owned(),
            capacity: 1_800,
            kinds: kinds.split(',').map(ToOwned::to_owned).collect(),
            queues: None,
            lease: ms(30_000),
        };
        commit!(stage.store, db => replica::join(db, &card, stage.clock().now_ms()));
        let _triggerer = stage.triggerer(settings("triggerer", 200)).await;
        stage.renewed(&["triggerer"], 3).await;
        let begun = stage.clock().monotonic();
        add(&stage, 100, "default").await;
        until("its share to be taken", async || stage.held().await >= 10).await;
        stage.pass(ms(700).saturating_sub(stage.clock().monotonic() - begun)).await;
        assert!(stage.held().await < 50, "the rest is another's");
        until("all to be held", async || stage.held().await == 100).await;
        let took = stage.clock().monotonic() - begun;
        println!("MEASURED taken after {took:?} in the place of one that takes nothing");
        assert!(took < ms(4_000), "{took:?}");
    }
);

/// Two triggers of one replica that are being checked when another joins: how many of them are checked anew.
async fn checked_anew(stage: &Stage, time_out: Option<Duration>, renewals: i64) -> usize {
    let _first = stage.triggerer(settings("first", 40)).await;
    let mut both = Vec::new();
    for _ in 0..2 {
        let (pending, played) = Scripted::of(|_| std::future::pending());
        let task = NewTask::of(&Script::<Plain>::of(|_, _| async { Ok(done()) })).unwrap();
        stage.store.enqueue(task.when(defer(pending.time_out(time_out)))).await.unwrap();
        played.until(Seen::Check, 1).await;
        both.push(played);
    }
    stage.have_waited().await;
    let _second = stage.triggerer(settings("second", 40)).await;
    stage.renewed(&["first", "second"], renewals).await;
    let anew = both.iter().map(|played| played.times(Seen::Check) - 1).sum();
    assert_eq!(share_of(&stage.holders().await, "second"), anew);
    anew
}

both!(
    async fn what_is_being_checked_stays_where_it_is(stage: Stage) {
        assert_eq!(checked_anew(&stage, Some(Duration::from_secs(30)), 6).await, 0);
    }
);

both!(
    async fn what_is_checked_for_as_long_as_it_takes_moves_all_the_same(stage: Stage) {
        assert_eq!(checked_anew(&stage, None, 6).await, 1);
    }
);

on_postgres!(
    async fn what_was_given_back_is_let_go_of_even_if_the_answer_is_lost(stage: Stage) {
        let proxy = stage.proxy().await;
        let _first = Role::triggerer(&stage.through(&proxy).await, settings("first", 40));
        add(&stage, 20, "default").await;
        until("all to be held", async || stage.held().await == 20).await;
        stage.have_waited().await;
        let cut = proxy.cut_after_commit_of("set holder = null, wake_at");
        let _second = stage.triggerer(settings("second", 40)).await;
        cut.happened().await;
        until("both to run their shares, and to know it", async || {
            let holders = stage.holders().await;
            let (first, second) = (stage.live("first").await, stage.live("second").await);
            share_of(&holders, "first") == 10
                && share_of(&holders, "second") == 10
                && (first.running, second.running) == (10, 10)
        })
        .await;
    }
);

on_postgres!(
    async fn what_cannot_be_given_back_is_run_where_it_is(stage: Stage) {
        let _first = stage.triggerer(settings("first", 40)).await;
        let played = add(&stage, 4, "default").await;
        until("all to be held", async || stage.held().await == 4).await;
        stage.have_waited().await;
        let mut tx = stage.store.begin().await.unwrap();
        let Db::Postgres(c) = tx.db() else { unreachable!() };
        sqlx::query("update reveille_trigger set deaths = deaths").execute(c).await.unwrap();
        let _second = stage.triggerer(settings("second", 40)).await;
        until("one to be let go of", async || played.iter().any(|played| played.times(Seen::CleanUp) > 0)).await;
        for played in &played {
            played.until(Seen::Check, played.times(Seen::Check) + 3).await;
        }
        assert_eq!(share_of(&stage.holders().await, "first"), 4);
        tx.commit().await.unwrap();
        until("both to have their shares", async || share_of(&stage.holders().await, "second") == 2).await;
    }
);
