//! The hot functions of one process, without a database: `cargo bench`.
//!
//! What a deferral costs before it is stored (split, seal), what a lease costs after it is read (open, join, hold), and what an
//! event costs until it is in a batch.

use std::{hint::black_box, time::Duration};

use criterion::{BatchSize, Criterion, Throughput};
use reveille::{
    Url,
    file::File,
    http::Http,
    kind::{join, split},
    store::scratch::Scratch,
    trigger::{Event, Trigger},
    triggerer::speed::Rig,
    vault::{Purpose, Vault},
    wait::{Any, Timer},
};
use tokio::runtime::Runtime;

/// How many events are fired together.
const EVENTS: usize = 2_000;

fn main() {
    let short = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    let mut criterion = short.sample_size(50).configure_from_args();
    sealing(&mut criterion);
    specs(&mut criterion);
    triggers(&mut criterion);
    criterion.final_summary();
}

/// Triggers as people wait for them.
fn samples() -> [(&'static str, Box<dyn Trigger>); 2] {
    let http = Http::get("https://example.org/jobs/0197?verbose=true".to_owned()).until_json("$.state", "done");
    let timer = Timer::after(Duration::from_hours(2));
    let file = File::at("/data/incoming/2026-01-01/orders.csv".to_owned());
    [("http", Box::new(http)), ("any", Box::new(Any::default().or("late", timer).or("there", file)))]
}

fn sealing(criterion: &mut Criterion) {
    let vault = Vault::ephemeral();
    let mut group = criterion.benchmark_group("vault");
    for size in [200, 4_096] {
        let plain = vec![b'x'; size];
        let sealed = vault.seal(Purpose::Spec, &plain);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("seal {size} bytes"), |b| b.iter(|| vault.seal(Purpose::Spec, black_box(&plain))));
        group.bench_function(format!("open {size} bytes"), |b| {
            b.iter(|| vault.open(Purpose::Spec, black_box(&sealed)).expect("it was sealed with this key"));
        });
    }
    group.finish();
}

fn specs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("spec");
    for (name, trigger) in samples() {
        let parts = split(&*trigger).expect("it can be stored");
        group.bench_function(format!("split {name}"), |b| b.iter(|| split(black_box(&*trigger))));
        group.bench_function(format!("join {name}"), |b| b.iter(|| join(black_box(&parts.spec))));
    }
    group.finish();
}

fn triggers(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime can be had");
    // What a replica is known by; nothing else is stored.
    let file = Url::Sqlite("speed.db".into());
    let scratch = runtime.block_on(Scratch::make(&file, "reveille_speed")).expect("there is a temporary folder");
    let store = runtime.block_on(scratch.open()).expect("a fresh file opens");
    let rig = runtime.block_on(Rig::new(store.clone(), 10 * EVENTS)).expect("it joins");
    let mut group = criterion.benchmark_group("triggerer");
    let spec = split(&*samples()[0].1).expect("it can be stored").spec;
    let trigger = || join(&spec).expect("it was split before");
    group.bench_function("hold one and let go", |b| {
        b.iter_batched(trigger, |trigger| rig.free(rig.hold(trigger)), BatchSize::SmallInput);
    });
    let event = Event::resume("done").expect("it is JSON");
    group.throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function(format!("fire {EVENTS} in batches"), |b| {
        let held = || (0..EVENTS).map(|_| rig.hold(trigger())).collect::<Vec<_>>();
        b.iter_batched(held, |held| runtime.block_on(rig.fire(held, &event)), BatchSize::PerIteration);
    });
    group.finish();
    drop(rig);
    runtime.block_on(store.close());
    runtime.block_on(scratch.remove()).expect("it can be removed");
}
