//! What the model shows.

use super::{GONE_UNPARKED, Liveness, Mutation, TOO_SOON, TWICE, WELL};
use crate::{
    checker::{breaks, holds},
    is_full,
};

/// How many faults one run sees in all.
const FAULTS: u8 = 2;
const MANY_FAULTS: u8 = 3;

fn without(mutation: Mutation) -> Liveness {
    Liveness { faults: FAULTS, mutation: Some(mutation) }
}

#[test]
fn who_is_gone_is_parked_and_who_is_well_is_never_gone() {
    let faults = if is_full() { MANY_FAULTS } else { FAULTS };
    holds(&format!("liveness, {faults} faults"), &Liveness { faults, mutation: None });
}

#[test]
fn time_counted_across_a_failed_read_is_found() {
    breaks(&without(Mutation::CountedAcrossAFailedRead), WELL);
}

#[test]
fn a_renewal_counted_from_its_reply_is_found() {
    breaks(&without(Mutation::CountedFromTheReply), GONE_UNPARKED);
}

#[test]
fn a_declaration_without_the_beat_is_found() {
    breaks(&without(Mutation::DeclaredWithoutTheBeat), TOO_SOON);
}

#[test]
fn a_take_over_that_reads_and_does_not_write_the_replica_row_is_found() {
    breaks(&without(Mutation::TakenWithoutTheWrite), TWICE);
}

#[test]
fn a_renewal_of_one_that_is_gone_is_found() {
    breaks(&without(Mutation::RenewedThoughGone), GONE_UNPARKED);
}

#[test]
fn a_silent_holder_that_goes_on_is_found() {
    breaks(&without(Mutation::NotParked), GONE_UNPARKED);
}
