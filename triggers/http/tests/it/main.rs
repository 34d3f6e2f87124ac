//! Real servers on the loopback interface, some of which misbehave, and a clock that only the tests turn.

mod answers;
mod bodies;
mod connections;
mod misbehaviour;
mod proxies;
mod redirects;
mod server;
mod specs;
mod stage;
mod tls;
mod waiting;
