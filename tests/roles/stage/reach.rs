//! A way to the database that can be cut, while the test itself still sees it.

use reveille::{Store, Url};
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::sync::Mutex;

use super::{Proxy, Stage};

/// Over a network the proxy is the way; a file is out of reach while another process holds its lock.
pub(crate) enum Reach {
    Network(Proxy),
    File { url: Url, locked: Mutex<Option<SqliteConnection>> },
}

impl Stage {
    pub(crate) async fn reach(&self) -> Reach {
        match self.home.url() {
            Url::Postgres(_) => Reach::Network(self.proxy().await),
            url @ Url::Sqlite(_) => Reach::File { url, locked: Mutex::new(None) },
        }
    }

    /// A store that sees the database that way.
    pub(crate) async fn along(&self, reach: &Reach) -> Store {
        match reach {
            Reach::Network(proxy) => self.through(proxy).await,
            Reach::File { .. } => self.another().await,
        }
    }

    /// From now on no replica can renew, and everything else goes on.
    pub(crate) async fn bar_renewals(&self) {
        let text = match self.home.url() {
            Url::Sqlite(_) => {
                "create trigger bar before update of beat on reveille_replica begin select raise(abort, 'barred'); end"
            }
            Url::Postgres(_) => {
                "create function bar() returns trigger language plpgsql as 'begin raise exception $$barred$$; end';
                 create trigger bar before update of beat on reveille_replica for each row execute function bar()"
            }
        };
        self.run(text).await;
    }

    pub(crate) async fn allow_renewals(&self) {
        self.run(match self.home.url() {
            Url::Sqlite(_) => "drop trigger bar",
            Url::Postgres(_) => "drop function bar() cascade",
        })
        .await;
    }
}

impl Reach {
    /// Over a network: nothing passes, and nobody is told.
    pub(crate) async fn fall_silent(&self) {
        match self {
            Self::Network(proxy) => proxy.fall_silent(),
            Self::File { .. } => self.cut().await,
        }
    }

    pub(crate) async fn cut(&self) {
        match self {
            Self::Network(proxy) => proxy.close(),
            Self::File { url: Url::Sqlite(path), locked } => {
                let options = SqliteConnectOptions::new().filename(path);
                let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
                sqlx::query("begin immediate").execute(&mut connection).await.unwrap();
                *locked.lock().await = Some(connection);
            }
            Self::File { .. } => unreachable!("a file is SQLite's"),
        }
    }

    pub(crate) async fn mend(&self) {
        match self {
            Self::Network(proxy) => proxy.open(),
            Self::File { locked, .. } => {
                let connection = locked.lock().await.take().expect("it was cut");
                connection.close().await.unwrap();
            }
        }
    }
}
