//! Fires when a TCP port accepts connections.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use reveille_trigger::{Answer, Context, Error, Event, Spacing, Trigger, async_trait, typetag};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::{connect::first_to_accept, resolve::resolve};

/// The longest name that the domain name system has (RFC 1035).
const MAX_HOST_BYTES: usize = 253;

/// The longest that one look may be allowed to take.
const MAX_TIME_OUT: Duration = Duration::from_mins(5);

/// Fires when a TCP port accepts connections. The payload is [`Accepted`].
///
/// # Spec
/// `{"host": "db.internal", "port": 5432, "every": "5s", "time_out": "3s"}`
///
/// - `host`: a name, or an address: `"10.0.0.5"`, `"::1"`.
/// - `port`: 1 to 65535.
/// - `every`: how far apart the looks are; `"5s"` unless given.
/// - `time_out`: how long a look waits, for the name and then for the port, at most 5 minutes; `"3s"` unless given.
///
/// # What a look finds
/// A name is resolved anew at each look, and up to 16 of its addresses are tried at once: it is enough that one accepts.
/// The connection is closed at once, and nothing is sent.
///
/// | the network says | answer |
/// |---|---|
/// | an address accepts | it has happened |
/// | refused, reset, unreachable, or no answer within `time_out`, on all of them | not yet |
/// | the name does not resolve, or not within `time_out` | an error that may be tried again |
/// | this host cannot look: no descriptor left, a firewall of its own | the same |
///
/// That a port accepts does not say that who listens is ready; a load balancer accepts for a server that is not there.
///
/// Tasks that wait for the same port in the same way share their looks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tcp {
    host: String,
    port: u16,
    #[serde(default)]
    every: Spacing,
    #[serde(default = "default_time_out", with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    time_out: Duration,
}

/// Who accepted: the payload a task resumes with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The address that accepted, with its port.
    pub address: SocketAddr,
}

impl Tcp {
    /// Waits for this port on a host, by its name or its address.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port, every: Spacing::default(), time_out: default_time_out() }
    }

    /// Sets how far apart the looks are.
    #[must_use]
    pub fn every(self, every: Duration) -> Self {
        self.spaced(Spacing::every(every))
    }

    /// Sets how far apart the looks are, where that is to grow.
    #[must_use]
    pub fn spaced(self, every: Spacing) -> Self {
        Self { every, ..self }
    }

    /// Sets how long a look waits, for the name and then for the port.
    #[must_use]
    pub fn within(self, time_out: Duration) -> Self {
        Self { time_out, ..self }
    }
}

#[typetag::serde(name = "tcp")]
#[async_trait]
impl Trigger for Tcp {
    async fn check(&self, cx: &Context) -> Result<Answer, Error> {
        let Self { host, port, time_out, .. } = self;
        let addresses = timeout(*time_out, resolve(host, *port))
            .await
            .map_err(|_| Error::again(format!("cannot resolve {host:?}: no answer within {time_out:?}")))?
            .map_err(|error| Error::again(format!("cannot resolve {host:?}: {error}")))?;
        match timeout(*time_out, first_to_accept(addresses)).await {
            Ok(Ok(Some(address))) => Ok(Answer::Fire(Event::resume(Accepted { address })?)),
            // Nobody there answers: the port does not accept, which is all that was asked.
            Ok(Ok(None)) => {
                cx.say("refused");
                Ok(Answer::NotYet)
            }
            Err(_) => {
                cx.say(format!("nobody accepted within {time_out:?}"));
                Ok(Answer::NotYet)
            }
            Ok(Err(error)) => Err(Error::again(format!("cannot connect to {host:?}, port {port}: {error}"))),
        }
    }

    fn validate(&self) -> Result<(), Error> {
        let host = self.host.as_str();
        let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
        let is_name = !host.is_empty() && host.len() <= MAX_HOST_BYTES && host.chars().all(is_plain);
        if !is_name && host.parse::<IpAddr>().is_err() {
            return Err(Error::fatal(format!(
                "`host` {host:?} is no name and no address: write one such as \"db.internal\", \"10.0.0.5\" or \"::1\", \
                 and the port beside it"
            )));
        }
        if self.port == 0 {
            return Err(Error::fatal("`port` is 0: write the one that is to accept, such as 5432"));
        }
        if self.every.interval(Duration::ZERO).is_zero() {
            return Err(Error::fatal("`every` is zero: write how far apart the looks are, such as \"5s\""));
        }
        if self.time_out.is_zero() || self.time_out > MAX_TIME_OUT {
            return Err(Error::fatal(
                "`time_out` is zero or longer than 5 minutes: write how long a look may wait, such as \"3s\"",
            ));
        }
        Ok(())
    }

    fn spacing(&self) -> Spacing {
        self.every
    }

    fn destination(&self) -> Option<String> {
        Some(match self.host.parse() {
            Ok(address) => SocketAddr::new(address, self.port).to_string(),
            Err(_) => format!("{}:{}", self.host, self.port),
        })
    }

    /// Each look is the same for everybody who waits for this.
    fn share(&self) -> bool {
        true
    }

    fn time_out(&self) -> Option<Duration> {
        // The check keeps its own, one for the name and one for the port; this is for what they don't see.
        Some(self.time_out * 2 + Duration::from_secs(1))
    }
}

const fn default_time_out() -> Duration {
    Duration::from_secs(3)
}
