//! Reveille, with what Acme brings.

reveille::main!(acme_tasks, acme_triggers);
