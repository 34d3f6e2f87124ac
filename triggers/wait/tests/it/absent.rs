use std::time::Duration;

use reveille_trigger::{Key, Timestamp, Trigger, Wait};
use reveille_wait::{Absent, All, Any, NotBefore, Otherwise, Signal};
use serde_json::json;

use crate::played::{Goes, Looker, Played};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn it_fires_at_the_time_and_only_if_that_look_has_seen_nothing() {
    let inner = Played::of([Goes::NotYet]).every(40 * SECOND);
    let (absent, mut looker) = (Absent::after(60 * SECOND, inner.clone()), Looker::new());
    let look = looker.look(&absent).await;
    assert!(look.is_not_yet() && look.next_is_about(40_000), "{look:?}");
    looker.turn(40 * SECOND);
    assert_eq!(looker.look(&absent).await.next, Some(20_000), "the last look is at the time itself");
    looker.turn(20 * SECOND);
    assert_eq!(looker.look(&absent).await.fired(), json!({ "resume": null }));
    assert_eq!(inner.looks(), 3);
}

#[tokio::test]
async fn a_look_that_cannot_tell_is_no_proof() {
    let (absent, mut looker) =
        (Absent::after(SECOND, Played::of([Goes::Fails, Goes::Fails, Goes::NotYet])), Looker::new());
    let look = looker.look(&absent).await;
    assert_eq!((look.next, look.answer.is_err()), (Some(1_000), true), "however long it would back off");
    looker.turn(2 * SECOND);
    let look = looker.look(&absent).await;
    assert_eq!((look.next, look.answer.is_err()), (None, true));
    assert_eq!(looker.look(&absent).await.fired(), json!({ "resume": null }));
}

#[tokio::test]
async fn it_is_looked_at_when_its_time_has_come_also_inside_others_and_after_one_that_could_not_tell() {
    let absent = || Absent::after(60 * SECOND, Played::of([Goes::NotYet, Goes::Fails]).every(40 * SECOND));
    let wholes: [Box<dyn Trigger>; 3] = [
        Box::new(NotBefore::after(SECOND, absent())),
        Box::new(Any::default().or("absent", absent()).or("signal", Signal::new("go"))),
        Box::new(All::default().and("absent", absent())),
    ];
    for whole in wholes {
        let mut looker = Looker::new();
        looker.turn(SECOND);
        assert!(looker.look(&*whole).await.is_not_yet());
        looker.turn(40 * SECOND);
        let look = looker.look(&*whole).await;
        assert_eq!((look.next, look.answer.is_err()), (Some(19_000), true), "{whole:?}");
    }
}

#[tokio::test]
async fn what_is_there_ends_the_task_as_it_was_asked_to() {
    let there = || Played::of([Goes::Fires(1)]);
    let said = "what was waited for to stay absent is there";
    let skips = Absent::after(SECOND, there());
    assert_eq!(Looker::new().look(&skips).await.fired(), json!({ "skip": said }));
    let fails = Absent::after(SECOND, there()).otherwise(Otherwise::Fail);
    assert_eq!(Looker::new().look(&fails).await.fired(), json!({ "fail": said }));
}

#[tokio::test]
async fn a_signal_may_be_absent_and_is_looked_for_once() {
    let absent = Absent::after(SECOND, Signal::new("alive"));
    let key = Key::Signal("alive".to_owned());
    let due = Timestamp::UNIX_EPOCH + SECOND;
    assert_eq!(absent.wait(Timestamp::UNIX_EPOCH), Wait::Mixed { from: Some(due), keys: vec![key.clone()] });
    let mut looker = Looker::new();
    looker.arrives(key, 1);
    assert!(looker.look(&absent).await.fired().get("skip").is_some());
}

#[tokio::test]
async fn nothing_inside_is_looked_at_before_its_time() {
    let inner = Played::of([Goes::NotYet, Goes::Fires(1)]);
    let (later, mut looker) = (NotBefore::after(60 * SECOND, inner.clone()), Looker::new());
    assert_eq!(
        later.wait(Timestamp::UNIX_EPOCH),
        Wait::Mixed { from: Some(Timestamp::UNIX_EPOCH + 60 * SECOND), keys: vec![] }
    );
    let look = looker.look(&later).await;
    assert_eq!((look.next, inner.looks()), (Some(60_000), 0));
    looker.turn(60 * SECOND);
    assert!(looker.look(&later).await.next_is_about(1_000));
    assert_eq!(looker.look(&later).await.fired(), json!({ "resume": 1 }), "and fires what that fires");
}

#[test]
fn one_time_must_be_written_and_nobody_would_be_given_what_is_taken_away() {
    let both = json!({ "not_before": { "of": { "signal": { "key": "go" } } } });
    let trigger: Box<dyn Trigger> = serde_json::from_value(both).unwrap();
    assert!(trigger.validate().unwrap_err().to_string().contains("it needs a time"));
    let takes = Absent::after(SECOND, Played::of([Goes::NotYet]).consuming());
    assert!(takes.validate().unwrap_err().to_string().contains("nobody would be given it"));
}
