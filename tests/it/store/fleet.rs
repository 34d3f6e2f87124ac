//! What triggerers share by: who is at work, what each holds, and what is free.

use std::{collections::HashMap, time::Duration};

use reveille::{
    Priority, defer,
    id::Incarnation,
    store::{
        Scope, fleet,
        replica::{self, Card, Role},
    },
};
use uuid::Uuid;

use crate::stage::{Fake, OtherFake, Stage, card, scope, work};

impl Stage {
    async fn members(&self, me: Incarnation) -> Vec<fleet::Member> {
        commit!(self.store, db => fleet::members(db, me, self.now()))
    }

    async fn free(&self, scope: &Scope) -> i64 {
        commit!(self.store, db => fleet::free(db, scope, self.now(), 100))
    }
}

both!(
    async fn who_is_gone_or_has_missed_two_renewals_is_no_member(stage: Stage) {
        let (me, peer, gone) = (stage.triggerer().await, stage.triggerer().await, stage.triggerer().await);
        stage.worker().await;
        stage.leave(gone).await;
        let members = async || {
            let mut members: Vec<Uuid> = stage.members(me).await.iter().map(|member| member.incarnation).collect();
            members.sort_unstable();
            members
        };
        assert_eq!(members().await, [me.0, peer.0]);
        stage.turn(Duration::from_millis(6_600));
        assert_eq!(members().await, [me.0, peer.0]);
        stage.turn(Duration::from_millis(100));
        assert_eq!(members().await, [me.0], "whether or not I have");
        commit!(stage.store, db => replica::renew(db, peer, 0, stage.now()));
        assert_eq!(members().await, [me.0, peer.0]);
    }
);

both!(
    async fn a_member_takes_all_that_another_does_if_it_has_its_kinds_and_queues(stage: Stage) {
        let queues = |queues: &[&str]| Some(queues.iter().map(|&queue| queue.to_owned()).collect::<Vec<_>>());
        for (serves, kinds, asked, takes) in [
            (None, vec!["fake"], None, true),
            (None, vec!["fake", "file"], Some(vec!["a"]), true),
            (None, vec!["other"], None, false),
            (None, vec![], None, true),
            (queues(&["a", "b"]), vec!["fake"], Some(vec!["a"]), true),
            (queues(&["a", "b"]), vec!["fake"], Some(vec!["a", "c"]), false),
            (queues(&["a", "b"]), vec!["fake"], None, false),
        ] {
            let me = stage.join_with(Card { queues: serves, ..card(Role::Triggerer, "fake,file") }).await;
            let members = stage.members(me).await;
            let member = members.iter().find(|member| member.incarnation == me.0).unwrap();
            let asked = asked.and_then(|asked| queues(&asked));
            assert_eq!(member.takes_all(&kinds, asked.as_deref()), takes, "{member:?}: {kinds:?} on {asked:?}");
        }
    }
);

both!(
    async fn what_is_free_is_what_would_be_leased(stage: Stage) {
        for (queue, priority) in [("a", Priority::Low), ("a", Priority::Urgent), ("b", Priority::Normal)] {
            stage.store.enqueue(work().queue(queue).priority(priority).when(defer(Fake::default()))).await.unwrap();
        }
        let aside = stage.store.enqueue(work().queue("a").when(defer(Fake::default()))).await.unwrap();
        stage.store.enqueue(work().queue("a").when(defer(OtherFake {}))).await.unwrap();
        stage.store.enqueue(work().queue("a").when(defer(reveille::wait::Signal::new("k")))).await.unwrap();
        let only_a = || Scope { queues: Some(vec!["a".to_owned()]), ..scope(&["fake"]) };
        let without = || Scope { aside: vec![aside], ..only_a() };
        assert_eq!(stage.free(&scope(&["fake", "other_fake"])).await, 5);
        assert_eq!((stage.free(&only_a()).await, stage.free(&without()).await), (3, 2));
        assert_eq!(
            commit!(stage.store, db => fleet::free(db, &only_a(), stage.now(), 2)),
            2,
            "and no more are counted"
        );
        assert_eq!(
            commit!(stage.store, db => fleet::free(db, &only_a(), stage.now() - 1, 100)),
            0,
            "nor before their time"
        );

        let (holder, other) = (stage.triggerer().await, stage.triggerer().await);
        assert_eq!(stage.leased(holder, 3).await.len(), 3);
        let held = async || commit!(stage.store, db => fleet::held(db));
        assert_eq!(held().await, HashMap::from([(holder.0, 3), (other.0, 0)]));
        assert_eq!(stage.free(&scope(&["fake"])).await, 1);
        stage.leave(holder).await;
        assert_eq!(held().await, HashMap::from([(other.0, 0)]));
        assert_eq!(stage.free(&scope(&["fake"])).await, 4, "what it leaves behind is free");
        assert_eq!((stage.free(&only_a()).await, stage.free(&without()).await), (3, 2));
        assert_eq!(stage.free(&scope(&["other_fake"])).await, 1);
    }
);
