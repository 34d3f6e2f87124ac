//! One request, with its redirects, within its limits.

use std::{collections::BTreeMap, time::Duration};

use reqwest::{
    Response, StatusCode, Url,
    header::{ACCEPT, ACCEPT_LANGUAGE, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, LOCATION},
};
use reveille_trigger::{Context, Error};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    Answered,
    answered::Body,
    client::client,
    connection::{Connection, has_credentials, is_absolute, is_http, origin},
};

/// The longest URL of a spec, in bytes: as long as most servers take.
const MAX_URL: usize = 8 * 1024;
/// The longest that an answer may take: a server that is polled for longer than this without a word is better asked again.
const MAX_TIME_OUT: Duration = Duration::from_mins(10);
/// The most redirects.
const MAX_REDIRECTS: u8 = 20;
/// The largest body that may be asked for. Up to 256 checks run at once.
const MAX_BODY: usize = 16 * 1024 * 1024;
/// Headers that a spec has no business with: secrets, which belong to a connection, and those that the client sets.
const REFUSED_HEADERS: [(&str, &str); 8] = [
    ("authorization", "configure a connection, which holds credentials outside of the spec"),
    ("proxy-authorization", "write the credentials into the variable that names the proxy"),
    ("cookie", "configure a connection, which holds credentials outside of the spec"),
    ("host", "it follows from `url`"),
    ("content-length", "it follows from `body`"),
    ("transfer-encoding", "it follows from `body`"),
    ("connection", "the client keeps its own"),
    ("upgrade", "the client speaks HTTP alone"),
];

/// What a request does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// Asks for something.
    #[default]
    Get,
    /// Asks for what `GET` would answer, without its body.
    Head,
    /// Hands something over.
    Post,
    /// Puts something in the place of what is there.
    Put,
    /// Changes a part of what is there.
    Patch,
    /// Removes what is there.
    Delete,
}

impl Method {
    /// Whether it changes nothing on the server, so that one look serves all that wait for the same.
    pub const fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head)
    }
}

impl From<Method> for reqwest::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Get => Self::GET,
            Method::Head => Self::HEAD,
            Method::Post => Self::POST,
            Method::Put => Self::PUT,
            Method::Patch => Self::PATCH,
            Method::Delete => Self::DELETE,
        }
    }
}

/// A request with its limits, as the fields of a spec say it.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Where to: absolute, or below the URL of the connection.
    pub url: &'a str,
    /// What it does.
    pub method: Method,
    /// Its headers, by name. None of them is a secret.
    pub headers: &'a BTreeMap<String, String>,
    /// Its body: a text as it is, anything else as JSON.
    pub body: Option<&'a Value>,
    /// The name of a configured connection.
    pub connection: Option<&'a str>,
    /// How long it may take, redirects and body included.
    pub time_out: Duration,
    /// How many redirects to follow. With none, an answer that redirects is an answer like any other.
    pub redirects: u8,
    /// How many bytes of a body to read.
    pub max_body: usize,
}

impl Call<'_> {
    /// Refuses what can never work.
    ///
    /// # Errors
    /// Fatal, and says which field is wrong and what to write.
    pub fn validate(&self) -> Result<(), Error> {
        let refuse = |what: String| Err(Error::fatal(what));
        if self.url.len() > MAX_URL {
            return refuse(format!("`url` has {} bytes, and may have {MAX_URL}", self.url.len()));
        }
        if self.connection.is_none() || is_absolute(self.url) {
            absolute(self.url)?;
        }
        if self.connection == Some("") {
            return refuse("`connection` is empty: write the name of one in reveille.toml, or leave it out".to_owned());
        }
        self.own_headers()?;
        if self.method == Method::Head && self.body.is_some() {
            return refuse("`body` goes with no HEAD: write another `method`, or leave the body out".to_owned());
        }
        if self.time_out.is_zero() || self.time_out > MAX_TIME_OUT {
            return refuse(
                "`time_out` must be more than nothing and 10 minutes at most: write one such as \"30s\"".to_owned(),
            );
        }
        if self.redirects > MAX_REDIRECTS {
            return refuse(format!("`redirects` is {}, and may be {MAX_REDIRECTS} at most", self.redirects));
        }
        if self.max_body == 0 || self.max_body > MAX_BODY {
            return refuse(format!("`max_body` is {}: write a number of bytes from 1 to {MAX_BODY}", self.max_body));
        }
        Ok(())
    }

    /// Where it goes: host and port; for a URL below that of a connection, the connection.
    pub fn destination(&self) -> Option<String> {
        if self.connection.is_some() && !is_absolute(self.url) {
            return self.connection.map(|name| format!("connection {name}"));
        }
        let url = Url::parse(self.url).ok()?;
        Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?))
    }

    /// Sends it, follows where it is led to, and reads the answer. With `etag`, asks only for something else than that.
    /// Dropped, it closes its connection.
    ///
    /// # Errors
    /// That may be tried again: no answer came, or not all of it, or it led to where no request may follow.
    /// Fatal if a URL is none.
    pub async fn send(&self, cx: &Context, etag: Option<&HeaderValue>) -> Result<Answered, Error> {
        let connection = self.connection.map(|name| Connection::of(cx, name)).transpose()?;
        let url = match &connection {
            Some(connection) => connection.join(self.url)?,
            None => absolute(self.url)?,
        };
        let shown = shown(&url);
        match timeout(self.time_out, self.follow(connection.as_ref(), url, etag)).await {
            Ok(answered) => answered,
            Err(_) => Err(Error::again(format!("{shown} gave no whole answer within {:?}", self.time_out))),
        }
    }

    async fn follow(
        &self,
        connection: Option<&Connection>,
        url: Url,
        etag: Option<&HeaderValue>,
    ) -> Result<Answered, Error> {
        let mut hop = Hop { url, method: self.method, has_body: self.body.is_some(), is_home: true, number: 0 };
        loop {
            let response = self.ask(&hop, connection, etag).await?;
            let Some(location) = self.redirects_to(&response) else { return self.read(response, &hop).await };
            if hop.number == self.redirects {
                return Err(Error::again(format!("{} redirects more than {} times", shown(&hop.url), self.redirects)));
            }
            hop = hop.next(response.status(), &location)?;
        }
    }

    /// Where an answer leads, if it does and may.
    fn redirects_to(&self, response: &Response) -> Option<String> {
        let is_redirect = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
        if !is_redirect || self.redirects == 0 {
            return None;
        }
        Some(String::from_utf8_lossy(response.headers().get(LOCATION)?.as_bytes()).into_owned())
    }

    async fn ask(
        &self,
        hop: &Hop,
        connection: Option<&Connection>,
        etag: Option<&HeaderValue>,
    ) -> Result<Response, Error> {
        // What is meant for one server goes to no other: neither its credentials nor trust in its certificates.
        let connection = connection.filter(|connection| hop.is_home && connection.is_for(&hop.url));
        let client = client(connection.and_then(|it| it.ca_file.as_deref())).await?;
        let mut request =
            client.request(hop.method.into(), hop.url.clone()).headers(self.headers_for(hop, connection, etag)?);
        if let Some((user, password)) = connection.and_then(|it| it.basic.as_ref()) {
            request = request.basic_auth(user, Some(password));
        }
        if hop.has_body
            && let Some(body) = self.body
        {
            request = request.body(match body {
                Value::String(text) => text.clone(),
                json => json.to_string(),
            });
        }
        let failed =
            |source: reqwest::Error| Unanswered::Sending { url: shown(&hop.url), source: source.without_url() };
        Ok(request.send().await.map_err(failed)?)
    }

    fn headers_for(
        &self,
        hop: &Hop,
        connection: Option<&Connection>,
        etag: Option<&HeaderValue>,
    ) -> Result<HeaderMap, Error> {
        let mut headers = self.own_headers()?;
        if !hop.is_home {
            let general = [ACCEPT, ACCEPT_LANGUAGE].map(|name| headers.remove(&name).map(|value| (name, value)));
            return Ok(general.into_iter().flatten().collect());
        }
        if let Some(connection) = connection {
            headers.extend(connection.headers.clone());
        }
        if hop.has_body
            && let Some(body) = self.body
            && !headers.contains_key(CONTENT_TYPE)
        {
            let kind = if body.is_string() { "text/plain; charset=utf-8" } else { "application/json" };
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        if let Some(etag) = etag.filter(|_| hop.number == 0) {
            headers.insert(IF_NONE_MATCH, etag.clone());
        }
        Ok(headers)
    }

    fn own_headers(&self) -> Result<HeaderMap, Error> {
        let mut headers = HeaderMap::with_capacity(self.headers.len());
        for (name, value) in self.headers {
            let lower = name.to_ascii_lowercase();
            if let Some((_, instead)) = REFUSED_HEADERS.iter().find(|(refused, _)| *refused == lower) {
                return Err(Error::fatal(format!("`headers` may not set {name:?}: {instead}")));
            }
            let named = HeaderName::from_bytes(lower.as_bytes())
                .map_err(|_| Error::fatal(format!("`headers` has {name:?}, which is no name of a header")))?;
            let value = HeaderValue::from_str(value).map_err(|_| {
                Error::fatal(format!("`headers` has a value of {name:?} with a character that none can have"))
            })?;
            headers.insert(named, value);
        }
        Ok(headers)
    }

    /// Reads the body, up to the limit. Past it the connection is dropped, since all that is left would have to be read
    /// before it can be used again.
    async fn read(&self, mut response: Response, hop: &Hop) -> Result<Answered, Error> {
        let status = response.status().as_u16();
        let headers = std::mem::take(response.headers_mut());
        let answered = |body| Answered::new(status, headers, body, hop.number == 0);
        if response.content_length().is_some_and(|length| length > self.max_body as u64) {
            return Ok(answered(Body::TooLong(self.max_body)));
        }
        let failed =
            |source: reqwest::Error| Unanswered::Reading { url: shown(&hop.url), status, source: source.without_url() };
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if bytes.len() + chunk.len() > self.max_body {
                return Ok(answered(Body::TooLong(self.max_body)));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(answered(Body::Whole(bytes)))
    }
}

/// One request of those that a call may take.
struct Hop {
    url: Url,
    method: Method,
    has_body: bool,
    /// Whether all requests so far went to one origin. Once it was left, what was meant for it is sent nowhere.
    is_home: bool,
    number: u8,
}

impl Hop {
    fn next(self, status: StatusCode, location: &str) -> Result<Self, Error> {
        let from = shown(&self.url);
        let refuse = |why: &str| Err(Error::again(format!("{from} redirects {why}")));
        let Some(url) = self.url.join(location).ok().filter(is_http) else {
            return refuse("to what is no URL");
        };
        if has_credentials(&url) {
            return refuse("to a URL with credentials in it");
        }
        if self.url.scheme() == "https" && url.scheme() == "http" {
            return refuse("from https to http");
        }
        // As browsers do, and RFC 9110, 15.4, allows.
        let becomes_get = status == StatusCode::SEE_OTHER && self.method != Method::Head
            || matches!(status.as_u16(), 301 | 302) && self.method == Method::Post;
        let method = if becomes_get { Method::Get } else { self.method };
        let has_body = self.has_body && !becomes_get;
        let is_home = self.is_home && url.origin() == self.url.origin();
        if has_body && !is_home {
            return refuse("to another server, and a body is sent to one only");
        }
        Ok(Self { url, method, has_body, is_home, number: self.number + 1 })
    }
}

#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error("{url} gave no answer")]
    Sending { url: String, source: reqwest::Error },
    #[error("{url} answered {status}, and broke off")]
    Reading { url: String, status: u16, source: reqwest::Error },
}

/// A URL that stands for itself.
fn absolute(text: &str) -> Result<Url, Error> {
    let Some(url) = Url::parse(text).ok().filter(is_http) else {
        return Err(Error::fatal(
            "`url` is no URL of HTTP: write one such as \"https://api.example.com/jobs/7\"; a relative one needs a `connection`",
        ));
    };
    if has_credentials(&url) {
        return Err(Error::fatal(
            "`url` has credentials in it: configure a connection, which holds them outside of the spec",
        ));
    }
    Ok(url)
}

/// A URL as messages show it: without its query, which may hold a secret.
pub(crate) fn shown(url: &Url) -> String {
    let path: String = url.path().chars().take(200).collect();
    format!("{}{path}", origin(url))
}
