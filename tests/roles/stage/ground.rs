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

    pub(super) fn url(&self) -> Url {
        match self {
            Self::Shared(home) => home.url(),
            Self::Own(cluster) => Url::Postgres(cluster.url()),
        }
    }

    pub(super) fn server(&self) -> &Cluster {
        match self {
            Self::Shared(_) => panic!("a server that others use is left alone"),
            Self::Own(cluster) => cluster,
        }
    }

    /// A server of the test's own goes when it is dropped.
    pub(super) async fn clear(&self) {
        if let Self::Shared(home) = self {
            home.clear().await;
        }
    }
}
