//! A trigger that polls a URL until a status, a header or a field of a JSON body is as it should be.
//!
//! ```
//! use std::time::Duration;
//! use reveille_http::{Http, Test};
//!
//! let ready = Http::get("https://api.example.com/health").until(200);
//! let exported = Http::get("/exports/7")
//!     .connection("warehouse")
//!     .until_json("$.state", "done")
//!     .fail_json("$.state", Test::one_of(["failed", "cancelled"]))
//!     .every(Duration::from_secs(30));
//! ```
//!
//! - `http.rs`: the trigger, its spec, and what each answer means
//! - `condition.rs`: conditions on an answer; `status.rs`, `test.rs` and `path.rs`: what they are made of
//! - `call.rs`: one request, with its redirects, within its limits; `answered.rs`: what came back
//! - `connection.rs`: a configured server with its credentials, and where they may go
//! - `mark.rs`: what a look leaves the next one; `retry_after.rs`: when a server wants to be asked again
//! - `client.rs`: the pooled clients
//! - `response.rs`: what the task resumes with

mod answered;
mod call;
mod client;
mod condition;
mod connection;
mod http;
mod mark;
mod path;
mod response;
mod retry_after;
mod status;
mod test;

pub use answered::Answered;
pub use call::{Call, Method};
pub use condition::{Condition, Conditions};
pub use http::Http;
pub use mark::Mark;
pub use path::Path;
pub use response::Response;
pub use status::{StatusRange, Statuses};
pub use test::Test;
