//! What the model shows.

use super::{DROPPED, GIVEN_TWICE, MISSED, Mutation, Signals};
use crate::{
    checker::{STUCK, breaks, holds},
    is_full,
};

fn without(mutation: Mutation) -> Signals {
    Signals { losses: 0, others: 0, mutation: Some(mutation) }
}

fn without_among_losses(mutation: Mutation) -> Signals {
    Signals { losses: 1, others: 1, mutation: Some(mutation) }
}

#[test]
fn a_signal_and_a_wait_meet_once_without_anybody_who_matches_again() {
    let others = if is_full() { 3 } else { 1 };
    holds(&format!("signals, {others} other ends"), &Signals { losses: 0, others, mutation: None });
}

#[test]
fn no_signal_is_lost_with_whoever_was_to_match_it() {
    let (losses, others) = if is_full() { (4, 2) } else { (2, 1) };
    let name = format!("signals, {losses} losses, {others} other ends");
    holds(&name, &Signals { losses, others, mutation: None });
}

#[test]
fn a_look_before_the_insert_is_found() {
    breaks(&without(Mutation::LooksBeforeTheInsert), STUCK);
}

#[test]
fn a_signal_that_is_stored_only_if_awaited_is_found() {
    breaks(&without(Mutation::StoredOnlyIfAwaited), DROPPED);
}

#[test]
fn losses_that_nobody_matches_again_are_found() {
    breaks(&without_among_losses(Mutation::NeverMatchedAgain), STUCK);
}

#[test]
fn a_signal_that_is_not_marked_as_taken_is_found() {
    breaks(&without(Mutation::NotMarked), GIVEN_TWICE);
}

#[test]
fn a_signal_that_begins_anew_after_each_page_is_found() {
    breaks(&without(Mutation::NoCursor), MISSED);
}

#[test]
fn a_signal_that_two_deliver_at_once_is_found() {
    breaks(&without(Mutation::NotLocked), MISSED);
}
