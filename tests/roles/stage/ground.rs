//! The database under a stage: on the server that all tests share, or on one of the test's own.

use reveille::{Store, Url};

use super::{
    backend::{Backend, Home},
    cluster::Cluster,
    pooler::Pooler,
};

#[derive(Debug)]
pub(super) enum Ground {
    Shared(Home),
    Own(Cluster),
    /// A server and one that follows it.
    Pair(Cluster, Cluster),
    /// Seen through a pooler.
    Pooled(Home, Pooler),
}

impl Ground {
    pub(super) async fn shared(backend: Backend) -> Self {
        Self::Shared(Home::new(backend).await)
    }

    pub(super) async fn own() -> Self {
        let ground = Self::Own(Cluster::primary());
        Store::migrate(&ground.url()).await.unwrap();
        ground
    }

    pub(super) async fn pair() -> Self {
        let primary = Cluster::primary();
        Store::migrate(&Url::Postgres(primary.url())).await.unwrap();
        let standby = Cluster::standby_of(&primary);
        Self::Pair(primary, standby)
    }

    pub(super) async fn pooled() -> Self {
        let home = Home::new(Backend::Postgres).await;
        let pooler = Pooler::before(&home.url(), "").await;
        Self::Pooled(home, pooler)
    }

    pub(super) fn url(&self) -> Url {
        match self {
            Self::Shared(home) => home.url(),
            Self::Own(cluster) => Url::Postgres(cluster.url()),
            // The standby first, so that everybody has to pass it over.
            Self::Pair(primary, standby) => Url::Postgres(standby.url_of_both(primary)),
            Self::Pooled(_, pooler) => pooler.url(),
        }
    }

    /// The primary ends at once, and its standby takes its place.
    pub(super) fn fail_over(&self) {
        let Self::Pair(primary, standby) = self else { panic!("nobody follows that server") };
        primary.stop("immediate");
        standby.promote();
    }

    /// Past the pooler.
    pub(super) fn direct_url(&self) -> Url {
        let Self::Pooled(home, _) = self else { panic!("there is no pooler before that server") };
        home.url()
    }

    pub(super) fn server(&self) -> &Cluster {
        match self {
            Self::Shared(_) | Self::Pooled(..) => panic!("a server that others use is left alone"),
            Self::Own(cluster) | Self::Pair(cluster, _) => cluster,
        }
    }

    pub(super) fn pooler(&self) -> &Pooler {
        let Self::Pooled(_, pooler) = self else { panic!("there is no pooler before that server") };
        pooler
    }

    /// A server of the test's own goes when it is dropped.
    pub(super) async fn clear(&self) {
        if let Self::Shared(home) | Self::Pooled(home, _) = self {
            home.clear().await;
        }
    }
}
