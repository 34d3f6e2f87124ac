//! The sessions that replicas renew by: presented by each, and seen by the others, if they are told apart by that.

use reveille::{
    Options, Store, Url,
    store::replica::{Alone, Session},
};
use uuid::Uuid;

use crate::stage::Stage;

/// What is seen of the only other replica's session.
async fn seen(alone: &mut Alone, me: reveille::id::Incarnation) -> Option<Session> {
    let peers = alone.peers(me).await.unwrap();
    assert_eq!(peers.len(), 1);
    peers[0].session
}

on_postgres!(
    async fn a_session_is_presented_and_is_seen_to_end(stage: Stage) {
        let (me, peer) = (stage.worker().await, stage.worker().await);
        let mut mine = stage.store.alone(me).await.unwrap();
        assert!(mine.sees_sessions());
        assert_eq!(seen(&mut mine, me).await, None, "it has not presented any");

        let its = stage.store.alone(peer).await.unwrap();
        let first = seen(&mut mine, me).await.unwrap();
        assert!(first.is_there);
        drop(its);
        while seen(&mut mine, me).await.unwrap().is_there {
            tokio::task::yield_now().await;
        }

        let _its = stage.store.alone(peer).await.unwrap();
        let second = seen(&mut mine, me).await.unwrap();
        assert!(second.is_there && (second.pid, second.began_at) != (first.pid, first.began_at), "{second:?}");
    }
);

on_postgres!(
    async fn a_session_of_another_beginning_is_another(stage: Stage) {
        let (me, peer) = (stage.worker().await, stage.worker().await);
        let mut mine = stage.store.alone(me).await.unwrap();
        let _its = stage.store.alone(peer).await.unwrap();
        // As if the number of its process had gone to another meanwhile.
        stage.meddle("update reveille_replica set session_began_at = session_began_at - 1").await;
        assert!(!seen(&mut mine, me).await.unwrap().is_there);
    }
);

on_postgres!(
    async fn a_session_that_somebody_elses_mark_is_on_is_not_presented(stage: Stage) {
        // As behind a pooler that hands a session with its settings on to the next client.
        let (me, peer) = (stage.worker().await, stage.worker().await);
        let mut mine = stage.store.alone(me).await.unwrap();
        let Url::Postgres(url) = stage.store.url() else { unreachable!() };
        let name = url.rsplit('/').next().unwrap();
        stage
            .meddle(format!(
                "create schema shared;
                 create function shared.current_setting(name text, missing_ok boolean) returns text language sql as
                   'select $${}$$';
                 alter database {name} set search_path = shared, pg_catalog, public",
                Uuid::nil()
            ))
            .await;
        let its = stage.another().await.alone(peer).await.unwrap();
        assert!(!its.sees_sessions());
        assert_eq!(seen(&mut mine, me).await, None);
    }
);

on_postgres!(
    async fn who_may_not_see_sessions_presents_none_and_renews_all_the_same(stage: Stage) {
        let (me, peer) = (stage.worker().await, stage.worker().await);
        let mut mine = stage.store.alone(me).await.unwrap();
        drop(stage.store.alone(peer).await.unwrap());
        assert!(seen(&mut mine, me).await.is_some());

        let role = format!("blind_{}", Uuid::now_v7().simple());
        stage
            .meddle(format!(
                "create role {role} login;
                 grant all on all tables in schema public to {role};
                 revoke select on pg_stat_activity from public"
            ))
            .await;
        let Url::Postgres(url) = stage.store.url() else { unreachable!() };
        let url = Url::Postgres(url.replace("reveille@", &format!("{role}@")));
        let blind = Store::connect(Options { url, ..stage.options() }).await.unwrap();
        let mut its = blind.alone(peer).await.unwrap();
        assert!(!its.sees_sessions());
        // What it had presented before, when it was allowed to, is no longer watched.
        assert_eq!(seen(&mut mine, me).await, None);
        let now = stage.now();
        let beat = its.run(async |db| reveille::store::replica::renew(db, peer, 0, now).await).await.unwrap();
        assert_eq!(beat, Some(1));
        drop(its);
        blind.close().await;
        stage.meddle(format!("drop owned by {role}; drop role {role}")).await;
    }
);
