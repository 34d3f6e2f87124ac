//! Replicas: who shows life, who is gone, and how long that is remembered.

use std::time::Duration;

use reveille::{
    id::Incarnation,
    store::{
        replica::{self, Beat, Card, Peer, Role},
        undo,
    },
};

use crate::stage::{Fake, Stage, card, scope};

const MINUTE: Duration = Duration::from_mins(1);

both!(
    async fn a_renewal_beats_a_declaration_that_is_based_on_an_older_beat(stage: Stage) {
        let (peer, me) = (stage.worker().await, stage.worker().await);
        let peers = async || commit!(stage.store, db => replica::peers(db, me));
        let declare = async |beat| commit!(stage.store, db => replica::declare_gone(db, beat, stage.now()));
        let renew = async || commit!(stage.store, db => replica::renew(db, peer, 7, stage.now()));
        let seen = peers().await;
        assert_eq!(
            seen,
            [Peer { beat: Beat { incarnation: peer, beat: 0 }, lease: Duration::from_secs(10), session: None }]
        );
        assert_eq!(renew().await, Some(1));
        assert!(!declare(seen[0].beat).await);
        assert_eq!(renew().await, Some(2));

        let seen = peers().await;
        assert!(declare(seen[0].beat).await);
        assert_eq!(renew().await, None);
        assert!(!declare(seen[0].beat).await, "once is enough");
        assert!(peers().await.is_empty());
    }
);

both!(
    async fn the_longest_lease_is_that_of_the_living(stage: Stage) {
        let longest = async || commit!(stage.store, db => replica::longest_lease(db));
        assert_eq!(longest().await, 0);
        stage.worker().await;
        let lease = Duration::from_mins(1);
        let patient = stage.join_with(Card { lease, ..card(Role::Triggerer, "fake") }).await;
        assert_eq!(longest().await, 60_000);
        stage.leave(patient).await;
        assert_eq!(longest().await, 10_000);
    }
);

both!(
    async fn who_has_left_is_not_lost(stage: Stage) {
        let worker = stage.worker().await;
        stage.leave(worker).await;
        stage.turn(MINUTE);
        let beat = Beat { incarnation: worker, beat: 0 };
        assert!(!commit!(stage.store, db => replica::declare_gone(db, beat, stage.now())));
        stage.leave(worker).await;
        let listed = commit!(stage.store, db => replica::list(db));
        let gone = stage.now() - 60_000;
        assert_eq!(
            listed.iter().map(|r| (r.gone_at, r.gone_why.as_deref())).collect::<Vec<_>>(),
            [(Some(gone), Some("left"))]
        );
    }
);

on_postgres!(
    async fn of_a_renewal_and_a_declaration_at_once_one_wins(stage: Stage) {
        for renewal_first in [true, false] {
            let peer = stage.worker().await;
            let beat = Beat { incarnation: peer, beat: 0 };
            let (mut renewing, mut declaring) =
                (stage.store.begin().await.unwrap(), stage.store.begin().await.unwrap());
            let now = stage.now();
            let (renewed, declared) = if renewal_first {
                let renewed = within!(renewing, db => replica::renew(db, peer, 0, now));
                let declare = async { within!(declaring, db => replica::declare_gone(db, beat, now)) };
                let commit = async {
                    stage.blocked(1).await;
                    renewing.commit().await.unwrap();
                };
                (renewed, futures::join!(declare, commit).0)
            } else {
                let declared = within!(declaring, db => replica::declare_gone(db, beat, now));
                let renew = async { within!(renewing, db => replica::renew(db, peer, 0, now)) };
                let commit = async {
                    stage.blocked(1).await;
                    declaring.commit().await.unwrap();
                };
                (futures::join!(renew, commit).0, declared)
            };
            assert_eq!((renewed.is_some(), declared), (renewal_first, !renewal_first));
        }
    }
);

both!(
    async fn a_gone_replica_is_remembered_as_long_as_something_names_it(stage: Stage) {
        let long = Duration::from_hours(1);
        let (worker, triggerer, idle, live) =
            (stage.worker().await, stage.triggerer().await, stage.worker().await, stage.worker().await);
        stage.deferred_on(Fake::default()).await;
        assert_eq!(stage.leased(triggerer, 1).await.len(), 1);
        let starter = stage.enqueue().await;
        assert_eq!(stage.claimed(worker, 1).await, [starter]);
        for replica in [worker, triggerer, idle] {
            stage.lose(replica).await;
        }
        let forget = async || {
            commit!(stage.store, db => replica::forget(db, stage.now()));
            let mut known: Vec<_> =
                commit!(stage.store, db => replica::list(db)).iter().map(|r| Incarnation(r.incarnation)).collect();
            known.retain(|known| [worker, triggerer, idle, live].contains(known));
            known.sort();
            known
        };
        let sorted = |mut replicas: Vec<Incarnation>| {
            replicas.sort();
            replicas
        };
        assert_eq!(forget().await.len(), 4, "a statement of its may be under way");
        stage.turn(long);
        assert_eq!(forget().await, sorted(vec![worker, triggerer, live]));
        stage.rescue(live).await;
        let next = stage.triggerer().await;
        stage.leased(next, 10).await;
        assert_eq!(forget().await, [live]);
    }
);

both!(
    async fn a_gone_replica_is_remembered_as_long_as_it_was_to_undo_something(stage: Stage) {
        let (gone, next) = (stage.triggerer().await, stage.triggerer().await);
        let fence = stage.deferred_on(Fake::default()).await;
        stage.store.cancel(fence.task, "no").await.unwrap();
        let undoes = async |who| commit!(stage.store, db => undo::lease(db, who, &scope(&["fake"]), stage.now(), 10));
        assert_eq!(undoes(gone).await.len(), 1);
        stage.lose(gone).await;
        stage.turn(Duration::from_hours(1));
        let is_known = async || {
            commit!(stage.store, db => replica::forget(db, stage.now()));
            commit!(stage.store, db => replica::list(db)).iter().any(|known| known.incarnation == gone.0)
        };
        assert!(is_known().await, "or nobody could tell that its work is free");
        assert_eq!(undoes(next).await.len(), 1);
        assert!(!is_known().await);
    }
);

both!(
    async fn a_replica_is_listed_as_it_presented_itself(stage: Stage) {
        let worker = stage.join(Role::Worker, "work,other").await;
        stage.turn(MINUTE);
        commit!(stage.store, db => replica::renew(db, worker, 7, stage.now()));
        let listed = commit!(stage.store, db => replica::list(db)).pop().unwrap();
        assert_eq!(
            (listed.role.as_str(), listed.kinds.as_str(), listed.queues.as_str()),
            ("worker", "work,other", "*")
        );
        assert_eq!((listed.capacity, listed.running, listed.beat), (100, 7, 1));
        assert_eq!((listed.joined_at, listed.seen_at, listed.gone_at), (stage.now() - 60_000, stage.now(), None));
    }
);

both!(
    async fn the_databases_time_is_near_the_hosts(stage: Stage) {
        let host = reveille::clock::Clock::system().now_ms();
        let database = commit!(stage.store, db => replica::database_time(db));
        assert!((database - host).abs() < 10_000, "{database} is not near {host}");
    }
);

both!(
    async fn renewing_has_a_connection_of_its_own(stage: Stage) {
        let worker = stage.worker().await;
        let mut alone = stage.store.alone(worker).await.unwrap();
        let now = stage.now();
        let beat = alone.run(async |db| replica::renew(db, worker, 1, now).await).await.unwrap();
        assert_eq!(beat, Some(1));
    }
);
