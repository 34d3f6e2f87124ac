//! What the model shows.

use super::{Leases, Mutation, OTHER_WAIT, OVER_CAPACITY, ZOMBIE};
use crate::{
    checker::{STUCK, breaks, holds},
    is_full,
};

/// How many things go wrong in one run.
const FAULTS: u8 = 2;
const MANY_FAULTS: u8 = 3;

fn without(mutation: Mutation) -> Leases {
    Leases { faults: 1, mutation: Some(mutation) }
}

#[test]
fn every_wait_is_held_by_one_within_its_capacity_and_comes_to_its_end() {
    let faults = if is_full() { MANY_FAULTS } else { FAULTS };
    holds(&format!("leases, {faults} faults"), &Leases { faults, mutation: None });
}

#[test]
fn an_event_without_its_generation_is_found() {
    breaks(&without(Mutation::NoGenerationCheck), OTHER_WAIT);
}

#[test]
fn a_verdict_without_its_holder_is_found() {
    breaks(&without(Mutation::NoHolderCheck), ZOMBIE);
}

#[test]
fn a_lease_of_one_that_is_gone_is_found() {
    breaks(&without(Mutation::LeasedThoughGone), STUCK);
}

#[test]
fn a_gone_row_that_is_deleted_at_once_is_found() {
    breaks(&without(Mutation::ForgottenThoughNamed), STUCK);
}

#[test]
fn a_gone_row_that_is_deleted_while_its_lease_is_under_way_is_found() {
    breaks(&without(Mutation::ForgottenTooSoon), STUCK);
}

#[test]
fn a_slot_that_is_free_before_the_fire_is_settled_is_found() {
    breaks(&without(Mutation::FreedBeforeSettled), OVER_CAPACITY);
}

#[test]
fn a_lost_answer_that_raises_no_doubt_is_found() {
    breaks(&without(Mutation::NoDoubt), OVER_CAPACITY);
}

#[test]
fn a_replica_that_never_compares_is_found() {
    breaks(&without(Mutation::NeverCompared), STUCK);
}

#[test]
fn a_look_at_what_is_held_that_waits_for_no_lease_is_found() {
    breaks(&without(Mutation::AskedTooSoon), OVER_CAPACITY);
}

#[test]
fn what_the_gone_held_and_nobody_takes_over_is_found() {
    breaks(&without(Mutation::NotTakenOver), STUCK);
}
