//! What the model shows.

use super::{FALSE_RECEIPT, Mutation, OTHER_WAIT, Outcomes, TWO_OUTCOMES, WENT_ON, ZOMBIE_ANSWER, ZOMBIE_VERDICT};
use crate::{
    checker::{STUCK, breaks, holds},
    is_full,
};

/// How many things go wrong in one run.
const FAULTS: u8 = 2;
const MANY_FAULTS: u8 = 4;

fn without(mutation: Mutation) -> Outcomes {
    Outcomes { faults: 1, mutation: Some(mutation) }
}

#[test]
fn every_deferral_has_one_outcome_and_every_task_an_end() {
    let faults = if is_full() { MANY_FAULTS } else { FAULTS };
    holds(&format!("outcomes, {faults} faults"), &Outcomes { faults, mutation: None });
}

#[test]
fn an_event_without_its_generation_is_found() {
    breaks(&without(Mutation::EventWithoutGeneration), OTHER_WAIT);
}

#[test]
fn an_event_that_compares_nothing_is_found() {
    breaks(&without(Mutation::EventWithoutCompare), TWO_OUTCOMES);
}

#[test]
fn a_deadline_without_its_generation_is_found() {
    breaks(&without(Mutation::DeadlineWithoutGeneration), OTHER_WAIT);
}

#[test]
fn a_wait_that_is_armed_again_under_its_old_generation_is_found() {
    breaks(&without(Mutation::RearmedInPlace), OTHER_WAIT);
}

#[test]
fn a_verdict_without_its_holder_is_found() {
    breaks(&without(Mutation::VerdictWithoutHolder), ZOMBIE_VERDICT);
}

#[test]
fn a_verdict_of_one_that_is_gone_is_found() {
    breaks(&without(Mutation::VerdictOfTheGone), ZOMBIE_VERDICT);
}

#[test]
fn an_answer_of_a_worker_that_is_gone_is_found() {
    breaks(&without(Mutation::AnswerOfTheGone), ZOMBIE_ANSWER);
}

#[test]
fn a_receipt_without_a_look_for_the_event_is_found() {
    breaks(&without(Mutation::NoLookForItsId), FALSE_RECEIPT);
}

#[test]
fn a_cancelled_task_that_waits_is_found() {
    breaks(&without(Mutation::DeferredThoughCancelled), WENT_ON);
}

#[test]
fn a_task_that_nobody_rescues_is_found() {
    breaks(&without(Mutation::NotRescued), STUCK);
}
