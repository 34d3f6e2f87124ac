//! A configured server with its credentials, and where they may go.

use std::{collections::BTreeMap, fmt};

use camino::Utf8PathBuf;
use reqwest::{
    Url,
    header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue},
};
use reveille_trigger::{Context, Error};
use serde::Deserialize;

/// `[connections.NAME]` of `reveille.toml`, as far as HTTP is concerned.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    url: String,
    bearer: Option<String>,
    basic: Option<Basic>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    ca_file: Option<Utf8PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Basic {
    user: String,
    #[serde(default)]
    password: String,
}

/// A configured server. Its headers are secrets, and go to its origin alone.
pub(crate) struct Connection {
    name: String,
    base: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) basic: Option<(String, String)>,
    pub(crate) ca_file: Option<Utf8PathBuf>,
}

impl Connection {
    /// Reads one from the configuration.
    ///
    /// # Errors
    /// That may be tried again, as another replica may be configured otherwise. They quote no value.
    pub(crate) fn of(cx: &Context, name: &str) -> Result<Self, Error> {
        let Table { url, bearer, basic, headers: table, ca_file } = cx.config().connection(name)?;
        let wrong = |what: &str| Error::again(format!("[connections.{name}]: {what}"));
        let base =
            Url::parse(&url).ok().filter(|url| is_http(url) && url.query().is_none() && url.fragment().is_none());
        let base =
            base.ok_or_else(|| wrong("`url` is no base URL: write one such as \"https://api.example.com/v1\""))?;
        if has_credentials(&base) {
            return Err(wrong("`url` has credentials in it: write them as `basic = { user = …, password = … }`"));
        }
        let mut headers = HeaderMap::new();
        for (key, value) in table {
            let named =
                HeaderName::from_bytes(key.as_bytes()).map_err(|_| wrong("`headers` has a name that is none"))?;
            headers.insert(
                named,
                secret(&value)
                    .ok_or_else(|| wrong(&format!("the header {key:?} has a value that no header can have")))?,
            );
        }
        if [bearer.is_some(), basic.is_some(), headers.contains_key(AUTHORIZATION)].into_iter().filter(|it| *it).count()
            > 1
        {
            return Err(wrong("only one of `bearer`, `basic` and a header `authorization` can be sent: keep one"));
        }
        if let Some(token) = bearer {
            let value = secret(&format!("Bearer {token}")).ok_or_else(|| wrong("`bearer` is no token"))?;
            headers.insert(AUTHORIZATION, value);
        }
        let basic = basic.map(|Basic { user, password }| (user, password));
        Ok(Self { name: name.to_owned(), base, headers, basic, ca_file })
    }

    /// Where a URL of a spec leads: one that is relative, below the base; one that is not must have its origin.
    pub(crate) fn join(&self, url: &str) -> Result<Url, Error> {
        let joined = if is_absolute(url) {
            Url::parse(url)
        } else {
            // Appended, not resolved: `/jobs` is below `/v1`, and no spelling of a path leads to another host.
            let base = self.base.as_str().trim_end_matches('/');
            Url::parse(&format!("{base}/{}", url.trim_start_matches('/')))
        };
        let joined = joined.map_err(|_| Error::fatal("`url` is no URL, joined to that of its `connection`"))?;
        if !self.is_for(&joined) {
            return Err(Error::fatal(format!(
                "`url` is of {}, and the connection {:?} of {}: write a relative one, or leave `connection` out",
                origin(&joined),
                self.name,
                origin(&self.base)
            )));
        }
        Ok(joined)
    }

    /// Whether the credentials may go to where a URL leads.
    pub(crate) fn is_for(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }
}

/// Only the name is shown.
impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A value that the client keeps out of its own logs, too.
fn secret(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Whether a URL of a spec stands for itself, and need not be joined to that of a connection.
pub(crate) fn is_absolute(url: &str) -> bool {
    let scheme = url.split(['/', '?', '#']).next().unwrap_or_default();
    scheme.contains(':')
}

pub(crate) fn is_http(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https") && url.has_host()
}

pub(crate) fn has_credentials(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// Scheme, host and port: what of a URL holds no secret for certain.
pub(crate) fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}
