use std::time::Duration;

use reveille_trigger::{Key, Timestamp, Trigger, Wait};
use reveille_wait::{All, NotBefore, Signal, Timer};
use serde_json::json;

use crate::played::{Goes, Looker, Played};

const SECOND: Duration = Duration::from_secs(1);

fn two(one: &Played, other: &Played) -> All {
    All::default().and("one", one.clone()).and("other", other.clone())
}

#[tokio::test]
async fn all_must_fire_at_one_look() {
    let (flickers, comes) =
        (Played::of([Goes::Fires(1), Goes::NotYet, Goes::Fires(3)]), Played::of([Goes::NotYet, Goes::Fires(2)]));
    let (all, mut looker) = (two(&flickers, &comes), Looker::new());
    let look = looker.look(&all).await;
    assert!(look.is_not_yet() && look.next_is_about(1_000), "{look:?}");
    assert_eq!(look.said.as_deref(), Some("other: not yet"));
    assert!(looker.look(&all).await.is_not_yet());
    assert_eq!(comes.looks(), 1, "a look ends at the first that cannot tell yet");
    assert_eq!(looker.look(&all).await.fired(), json!({ "resume": { "one": 3, "other": 2 } }));
}

#[tokio::test]
async fn nothing_is_asked_before_what_must_come_has_come() {
    let asks = Played::of([Goes::Fires(1)]);
    let all = All::default().and("asks", asks.clone()).and("go", Signal::new("go")).and("timer", Timer::after(SECOND));
    assert_eq!(all.wait(Timestamp::UNIX_EPOCH), Wait::Mixed { from: None, keys: vec![Key::Signal("go".to_owned())] });
    let mut looker = Looker::new();
    let look = looker.look(&all).await;
    assert!(look.is_not_yet() && look.next.unwrap() > 1_000_000_000_000 && !look.remembers, "{look:?}");
    looker.arrives(Key::Signal("go".to_owned()), "came");
    assert_eq!(looker.look(&all).await.next, Some(1_000));
    assert_eq!(asks.looks(), 0);
    looker.turn(SECOND);
    assert_eq!(looker.look(&all).await.fired(), json!({ "resume": { "asks": 1, "go": "came", "timer": null } }));
}

#[tokio::test]
async fn one_that_skips_ends_the_task_at_once_and_one_that_succeeds_once_all_have_fired() {
    let all = two(&Played::of([Goes::Skips]), &Played::of([Goes::NotYet]));
    assert_eq!(Looker::new().look(&all).await.fired(), json!({ "skip": "not needed" }));
    let all = two(&Played::of([Goes::Succeeds]), &Played::of([Goes::NotYet, Goes::Fires(1)]));
    let mut looker = Looker::new();
    assert!(looker.look(&all).await.is_not_yet());
    assert_eq!(looker.look(&all).await.fired(), json!({ "succeed": "done" }));
}

#[tokio::test]
async fn an_error_says_whose_it_is_and_a_fatal_one_is_fatal() {
    for (goes, fatal) in [(Goes::Fails, false), (Goes::NeverCan, true), (Goes::Panics, false)] {
        let error = Looker::new().look(&two(&Played::of([Goes::Fires(1)]), &Played::of([goes]))).await.error();
        assert!(error.to_string().starts_with("other: ") && error.is_fatal() == fatal, "{error}");
    }
}

#[tokio::test]
async fn what_one_of_them_remembers_is_kept_while_another_holds_the_whole_up() {
    let (counts, comes) = (Played::of([Goes::Counts(2)]), Played::of([Goes::NotYet, Goes::NotYet, Goes::Fires(1)]));
    let (all, mut looker) = (two(&counts, &comes), Looker::new());
    for _ in 0..3 {
        assert!(looker.look(&all).await.is_not_yet());
        looker.turn(SECOND);
    }
    assert_eq!(looker.look(&all).await.fired(), json!({ "resume": { "one": 4, "other": 1 } }));
}

#[test]
fn what_has_no_place_in_it_is_refused() {
    for (inner, part) in [
        (Played::of([Goes::NotYet]).consuming(), "other: played takes what it finds away"),
        (Played::of([Goes::NotYet]).lasting(), "other: a check of played lasts"),
    ] {
        let nested = All::default().and("one", Signal::new("go")).and("other", inner);
        let said = nested.validate().unwrap_err().to_string();
        assert!(said.contains(part), "{said}");
    }
    let hidden = All::default().and("one", NotBefore::after(SECOND, Played::of([Goes::NotYet]).consuming()));
    assert!(hidden.validate().unwrap_err().to_string().contains("takes what it finds away"));
}
