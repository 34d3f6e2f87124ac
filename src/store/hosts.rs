//! The hosts that a URL names, and which of them takes writes now.
//!
//! `postgres://user@one,two:5433/app` names two servers of which one is the primary: it may be the other tomorrow. The rule:
//! a connection counts only if its server is not in recovery, and whoever connects tries them in turn. The driver knows
//! of one host a URL, so the list is read here.

use std::{
    path::PathBuf,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sqlx::{ConnectOptions, Connection, PgConnection, Row, postgres::PgConnectOptions};

use super::sessions::Sessions;
use crate::error::{Error, Result};

/// How long one of several hosts may take to let us in before the next is tried: one that is off answers nothing.
const TRY: Duration = Duration::from_secs(1);

/// How to reach each host of a URL, in its order, and what sessions are had there.
#[derive(Clone, Debug)]
pub(super) struct Hosts {
    each: Vec<PgConnectOptions>,
    /// Which is tried first: the one that took writes last, or the one after that which somebody is trying, so that whoever
    /// gives up before its time is over begins with another the next time.
    first: Arc<AtomicUsize>,
    sessions: Sessions,
}

/// Where a server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// On a host, at a port.
    Host(String, u16),
    /// By a socket of this host.
    Socket(PathBuf),
}

/// The URL with another place for its server: a port of this host.
pub(super) fn at_local_port(text: &str, port: u16) -> String {
    let (text, _) = without(text, |name| ["host", "hostaddr", "port"].contains(&name));
    let Some((scheme, rest)) = text.split_once("://") else { return text };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let user = authority.rsplit_once('@').map_or_else(String::new, |(user, _)| format!("{user}@"));
    format!("{scheme}://{user}127.0.0.1:{port}{path}")
}

impl Hosts {
    /// Where the server is; none if there are several.
    pub(super) fn place(&self) -> Option<Place> {
        let [options] = &self.each[..] else { return None };
        let host = options.get_host();
        let folder = options.get_socket().cloned().or_else(|| host.starts_with('/').then(|| host.into()));
        Some(match folder {
            Some(folder) => Place::Socket(folder.join(format!(".s.PGSQL.{}", options.get_port()))),
            None => Place::Host(host.to_owned(), options.get_port()),
        })
    }

    /// Reads a URL.
    pub(super) fn of(text: &str) -> Result<Self> {
        let (text, attributes) = without(text, |name| name == "target_session_attrs");
        if let Some(attributes) = attributes.filter(|it| !["read-write", "primary"].contains(&it.as_str())) {
            return Err(Error::Invalid(format!(
                "the database URL asks for a server that is {attributes}: only one that takes writes can be used, so say target_session_attrs=read-write or nothing"
            )));
        }
        let (text, pooler) = without(&text, |name| name == "pooler");
        let (each, sessions) = match pooler.as_deref() {
            None | Some("false") => (each_of(&text)?, Sessions::Own),
            Some("true") => behind_pooler(&text)?,
            Some(other) => {
                return Err(Error::Invalid(format!(
                    "the database URL says pooler={other}: write pooler=true if there is one, or leave it out"
                )));
            }
        };
        Ok(Self { each, first: Arc::default(), sessions })
    }

    /// What sessions are had there.
    pub(super) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Each with these settings: of the session where that is our own, else of each transaction.
    pub(super) fn with<V: std::fmt::Display + Clone>(mut self, settings: &[(&str, V)]) -> Self {
        if self.sessions.are_shared() {
            for (name, value) in settings {
                self.sessions.set(name, value);
            }
            return self;
        }
        self.map(|options| options.options(settings.iter().cloned()))
    }

    /// Whether there is a choice.
    pub(super) fn are_several(&self) -> bool {
        self.each.len() > 1
    }

    /// Each, as it is reached.
    pub(super) fn iter(&self) -> impl Iterator<Item = &PgConnectOptions> {
        self.each.iter()
    }

    /// Each with what `more` adds.
    pub(super) fn map(self, more: impl Fn(PgConnectOptions) -> PgConnectOptions) -> Self {
        Self { each: self.each.into_iter().map(more).collect(), ..self }
    }

    /// Connects to one of them that takes writes, first to the one that did last, and says which that is; where there is but
    /// one, to that.
    ///
    /// # Errors
    /// What the last of them said.
    pub(super) async fn connect(&self) -> Result<(PgConnection, usize), sqlx::Error> {
        let mut refused = sqlx::Error::Configuration("the database URL names no host".into());
        let (count, first) = (self.each.len(), self.first.load(Ordering::Relaxed));
        for at in (first..first + count).map(|at| at % count) {
            let options = &self.each[at];
            if !self.are_several() {
                return options.connect().await.map(|connection| (connection, at));
            }
            self.first.store((at + 1) % count, Ordering::Relaxed);
            match tokio::time::timeout(TRY, try_one(options)).await {
                Ok(Ok(connection)) => {
                    self.first.store(at, Ordering::Relaxed);
                    return Ok((connection, at));
                }
                Ok(Err(error)) => refused = error,
                Err(late) => refused = sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, late)),
            }
        }
        Err(refused)
    }

    /// How to reach one of them.
    pub(super) fn at(&self, at: usize) -> PgConnectOptions {
        self.each[at].clone()
    }

    /// How to reach the one that takes writes now; where there is but one, that.
    ///
    /// # Errors
    /// If none does, or none can be reached.
    pub(super) async fn primary(&self) -> Result<PgConnectOptions, sqlx::Error> {
        if !self.are_several() {
            return Ok(self.at(0));
        }
        let (connection, at) = self.connect().await?;
        connection.close().await?;
        Ok(self.at(at))
    }
}

async fn try_one(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let mut connection = options.connect().await?;
    if is_in_recovery(&mut connection).await? {
        let said = format!("{} is in recovery (a standby, or still starting)", options.get_host());
        return Err(sqlx::Error::Io(std::io::Error::other(said)));
    }
    Ok(connection)
}

/// Whether a server follows another, and takes no writes.
pub(super) async fn is_in_recovery(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::raw_sql("select pg_is_in_recovery()").fetch_one(connection).await?.try_get(0)
}

/// How to reach each host of a URL.
fn each_of(text: &str) -> Result<Vec<PgConnectOptions>> {
    let options = |text: &String| {
        PgConnectOptions::from_str(text)
            .map_err(|error| Error::Invalid(format!("the database URL does not read: {error}")))
    };
    one_each(text).iter().map(options).collect()
}

/// The same where a pooler stands there, which refuses what it cannot hold each session to: what a session would be told
/// as it begins is for each transaction.
fn behind_pooler(text: &str) -> Result<(Vec<PgConnectOptions>, Sessions)> {
    let sessions = Sessions::shared(each_of(text)?[0].get_options().unwrap_or_default())?;
    let (text, _) = without(text, is_option);
    let each: Vec<_> = each_of(&text)?.into_iter().map(|options| options.extra_float_digits(None)).collect();
    if each[0].get_options().is_some() {
        return Err(Error::Invalid(
            "PGOPTIONS is set, and a pooler passes no options on: unset it, and write settings in the database URL, as options[search_path]=reveille".to_owned(),
        ));
    }
    Ok((each, sessions))
}

/// The URL once for each host that it names.
fn one_each(text: &str) -> Vec<String> {
    let Some((scheme, rest)) = text.split_once("://") else { return vec![text.to_owned()] };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    // A password may have commas, but no @ that is not encoded.
    let (user, hosts) = authority.rsplit_once('@').map_or((None, authority), |(user, hosts)| (Some(user), hosts));
    let at = user.map_or_else(String::new, |user| format!("{user}@"));
    hosts.split(',').map(|host| format!("{scheme}://{at}{host}{path}")).collect()
}

/// Whether a parameter of a URL is about what a session is told as it begins.
fn is_option(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name == "options" || name.starts_with("options[") || name.starts_with("options%5b")
}

/// The URL without the parameters of some name, and what the first of them was.
fn without(text: &str, named: impl Fn(&str) -> bool) -> (String, Option<String>) {
    let Some((before, query)) = text.split_once('?') else { return (text.to_owned(), None) };
    let is_it = |pair: &&str| pair.split_once('=').is_some_and(|(name, _)| named(name));
    let value = query.split('&').find(is_it).and_then(|pair| pair.split_once('=')).map(|(_, value)| value.to_owned());
    let others = query.split('&').filter(|pair| !is_it(pair)).collect::<Vec<_>>().join("&");
    let separator = if others.is_empty() { "" } else { "?" };
    (format!("{before}{separator}{others}"), value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(text: &str) -> Vec<(String, u16)> {
        Hosts::of(text).unwrap().iter().map(|options| (options.get_host().to_owned(), options.get_port())).collect()
    }

    #[test]
    fn every_host_of_a_list_is_read_with_its_port() {
        let of = |host: &str, port| (host.to_owned(), port);
        assert_eq!(places("postgres://me:a,b@one/app"), [of("one", 5432)]);
        assert_eq!(
            places("postgres://me@one,two:5433/app?target_session_attrs=read-write&sslmode=disable"),
            [of("one", 5432), of("two", 5433)]
        );
    }

    #[test]
    fn what_is_not_about_hosts_is_the_same_for_each() {
        let hosts = Hosts::of("postgres://me:secret@one,two/app?options[search_path]=mine").unwrap();
        for options in hosts.iter() {
            assert_eq!((options.get_username(), options.get_database()), ("me", Some("app")));
            assert_eq!(options.get_options(), Some("-c search_path=mine"));
        }
    }

    #[test]
    fn a_pooler_is_declared_in_the_url_and_told_nothing_that_it_refuses() {
        let hosts = Hosts::of("postgres://me@one,two/app?pooler=true&options%5Bsearch_path%5D=mine&sslmode=disable");
        let hosts = hosts.unwrap().with(&[("jit", "off")]);
        assert_eq!(
            hosts.sessions().beginning("begin"),
            "begin; select set_config('search_path', 'mine', true), set_config('jit', 'off', true)"
        );
        assert!(hosts.iter().all(|options| options.get_options().is_none()), "{hosts:?}");
        let without_one = Hosts::of("postgres://me@one/app?pooler=false").unwrap().with(&[("jit", "off")]);
        assert_eq!(without_one.sessions().beginning("begin"), "begin");
        assert_eq!(without_one.at(0).get_options(), Some("-c jit=off"));
        let refused = Hosts::of("postgres://me@one/app?pooler=session").unwrap_err();
        assert!(refused.to_string().contains("write pooler=true"), "{refused}");
    }

    #[test]
    fn one_server_has_a_place_and_may_be_reached_at_another() {
        let place = |text: &str| Hosts::of(text).unwrap().place();
        let socket = |path: &str| Some(Place::Socket(path.into()));
        assert_eq!(place("postgres://me@one:5433/app"), Some(Place::Host("one".to_owned(), 5433)));
        assert_eq!(place("postgres://me@%2Frun%2Fpg:5433/app"), socket("/run/pg/.s.PGSQL.5433"));
        assert_eq!(place("postgres:///app?user=me&host=/run/pg&port=5433"), socket("/run/pg/.s.PGSQL.5433"));
        assert_eq!(place("postgres://me@one,two/app"), None);
        for (text, moved) in [
            ("postgres://me:p%40@one:5433/app?pooler=true", "postgres://me:p%40@127.0.0.1:99/app?pooler=true"),
            ("postgres://me@%2Frun%2Fpg/app", "postgres://me@127.0.0.1:99/app"),
            ("postgres:///app?user=me&host=/run/pg&port=5433", "postgres://127.0.0.1:99/app?user=me"),
        ] {
            assert_eq!(at_local_port(text, 99), moved);
            assert_eq!(place(&at_local_port(text, 99)), Some(Place::Host("127.0.0.1".to_owned(), 99)));
        }
    }

    #[test]
    fn a_server_that_only_reads_cannot_be_asked_for() {
        let refused = Hosts::of("postgres://me@one,two/app?target_session_attrs=any").unwrap_err();
        assert!(refused.to_string().contains("target_session_attrs=read-write"), "{refused}");
    }
}
