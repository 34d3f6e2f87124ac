//! The database under a stage: on the server that all tests share, or on one of the test's own.

use reveille::{Store, Url};

use super::{
    backend::{Backend, Home},
    cluster::Cluster,
};

#[derive(Debug)]
pub(super) enum Ground {
    Shared(Home),
    Own(Cluster),
    /// A server and one that follows it.
    Pair(Cluster, Cluster),
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

    pub(super) fn url(&self) -> Url {
        match self {
            Self::Shared(home) => home.url(),
            Self::Own(cluster) => Url::Postgres(cluster.url()),
            // The standby first, so that everybody has to pass it over.
            Self::Pair(primary, standby) => Url::Postgres(standby.url_of_both(primary)),
        }
    }

    /// The primary ends at once, and its standby takes its place.
    pub(super) fn fail_over(&self) {
        let Self::Pair(primary, standby) = self else { panic!("nobody follows that server") };
        primary.stop("immediate");
        standby.promote();
    }

    pub(super) fn server(&self) -> &Cluster {
        match self {
            Self::Shared(_) => panic!("a server that others use is left alone"),
            Self::Own(cluster) | Self::Pair(cluster, _) => cluster,
        }
    }

    /// A server of the test's own goes when it is dropped.
    pub(super) async fn clear(&self) {
        if let Self::Shared(home) = self {
            home.clear().await;
        }
    }
}
