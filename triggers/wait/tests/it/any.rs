use std::time::Duration;

use reveille_trigger::{Key, Receipt, Timestamp, Trigger, Wait};
use reveille_wait::{All, Any, NotBefore, Signal, Timer};
use serde_json::json;

use crate::played::{Faulty, Goes, Looker, Played, Seen};

const SECOND: Duration = Duration::from_secs(1);

fn two(one: &Played, other: &Played) -> Any {
    Any::default().or("one", one.clone()).or("other", other.clone())
}

#[tokio::test]
async fn each_is_looked_at_as_far_apart_as_it_says() {
    let (often, rarely) = (Played::of([Goes::NotYet]), Played::of([Goes::NotYet]).every(10 * SECOND));
    let (any, mut looker) = (two(&often, &rarely), Looker::new());
    for second in 1..=6 {
        let look = looker.look(&any).await;
        assert!(look.is_not_yet() && look.next_is_about(1_000), "{look:?}");
        assert_eq!((often.looks(), rarely.looks()), (second, 1));
        looker.turn(SECOND);
    }
    looker.turn(4 * SECOND);
    looker.look(&any).await;
    assert_eq!((often.looks(), rarely.looks()), (7, 2));
}

#[tokio::test]
async fn one_that_cannot_tell_backs_off_by_itself() {
    let (blind, sees) = (Played::of([Goes::Fails]), Played::of([Goes::NotYet]));
    let (any, mut looker) = (two(&blind, &sees), Looker::new());
    for _ in 0..20 {
        assert!(looker.look(&any).await.is_not_yet());
        looker.turn(SECOND);
    }
    assert_eq!(sees.looks(), 20);
    assert!((2..=6).contains(&blind.looks()), "{} looks", blind.looks());
}

#[tokio::test]
async fn one_that_is_alone_with_checks_to_make_backs_off_too_and_each_look_it_asks_for_counts() {
    let any = Any::default().or("blind", Played::of([Goes::Fails])).or("signal", Signal::new("go"));
    let mut looker = Looker::new();
    for failures in 1..=8 {
        let look = looker.look(&any).await;
        assert!(look.next_is_about(60_000.min(1_000 << failures)), "after {failures}: {look:?}");
        let next = Duration::from_millis(look.next.unwrap().try_into().unwrap());
        assert_eq!(look.error().retry_after(), Some(next), "not sooner, as it would ask nobody");
        looker.turn(next);
    }
}

#[tokio::test]
async fn it_cannot_tell_once_none_of_them_can() {
    let (one, other) = (Played::of([Goes::Fails]), Played::of([Goes::Panics]));
    let mut looker = Looker::new();
    let look = looker.look(&two(&one, &other).or("later", Timer::after(60 * SECOND))).await;
    assert!(look.next_is_about(2_000), "{look:?}");
    let error = look.error();
    assert!(!error.is_fatal());
    let said = error.to_string();
    assert!(said.contains("one: no route to it") && said.contains("other: the check panicked: a bug in it"), "{said}");
}

#[tokio::test]
async fn one_that_can_never_fire_is_left_out_and_once_none_can_the_wait_ends_badly() {
    let (dead, dies) = (Played::of([Goes::NeverCan]), Played::of([Goes::NotYet, Goes::NeverCan]));
    let (any, mut looker) = (two(&dead, &dies), Looker::new());
    let look = looker.look(&any).await;
    assert!(look.is_not_yet(), "{look:?}");
    assert_eq!(look.said.as_deref(), Some("one: it is gone"));
    looker.turn(SECOND);
    let error = looker.look(&any).await.error();
    assert!(error.is_fatal());
    assert_eq!((dead.looks(), dies.looks()), (1, 2));
}

#[tokio::test]
async fn a_timer_beside_one_that_can_never_fire_still_fires() {
    let any = Any::default().or("dead", Played::of([Goes::NeverCan])).or("timer", Timer::after(60 * SECOND));
    let mut looker = Looker::new();
    let look = looker.look(&any).await;
    assert!(look.is_not_yet() && !look.remembers, "{look:?}");
    assert_eq!(look.next, Some(60_000));
    looker.turn(60 * SECOND);
    assert_eq!(looker.look(&any).await.fired(), json!({ "resume": { "timer": null } }));
}

#[tokio::test]
async fn one_that_hangs_holds_up_no_other() {
    let any = two(&Played::of([Goes::Hangs]).lasting(), &Played::of([Goes::Fires(7)]));
    assert_eq!(Looker::new().look(&any).await.fired(), json!({ "resume": { "other": 7 } }));
    assert_eq!(any.time_out(), None, "a look at it lasts as long as that at one of them");
}

#[tokio::test]
async fn one_that_would_be_looked_at_without_a_pause_lets_the_others_have_their_turn() {
    let eager = Played::of([Goes::NotYet, Goes::Fires(1)]).every(Duration::ZERO);
    let look = Looker::new().look(&two(&eager, &Played::of([Goes::Hangs]))).await;
    assert!(look.is_not_yet(), "{look:?}");
    assert_eq!((look.next, eager.looks()), (Some(10), 1));
}

#[tokio::test]
async fn a_look_may_take_as_long_as_there_is_time() {
    let any = two(&Played::of([Goes::Fires(1)]).within(Duration::MAX), &Played::of([Goes::NotYet]));
    assert_eq!(any.time_out(), Some(Duration::MAX));
    assert_eq!(Looker::new().look(&any).await.fired(), json!({ "resume": { "one": 1 } }));
}

#[tokio::test]
async fn one_with_a_bug_in_its_time_out_holds_up_no_other() {
    let said = "the check panicked: a bug in its time-out";
    assert_eq!(Looker::new().look(&Faulty).await.error().to_string(), said);
    let any = Any::default().or("faulty", Faulty).or("other", Played::of([Goes::NotYet]));
    let look = Looker::new().look(&any).await;
    assert!(look.is_not_yet(), "{look:?}");
    assert_eq!(look.said, Some(format!("faulty: {said}")));
    let all = All::default().and("faulty", Faulty);
    assert_eq!(Looker::new().look(&all).await.error().to_string(), format!("faulty: {said}"));
}

#[tokio::test]
async fn what_asks_nobody_is_asked_first() {
    let asks = Played::of([Goes::Fires(7)]);
    let any = Any::default().or("asks", asks.clone()).or("signal", Signal::new("go"));
    let mut looker = Looker::new();
    looker.arrives(Key::Signal("go".to_owned()), 42);
    assert_eq!(looker.look(&any).await.fired(), json!({ "resume": { "signal": 42 } }));
    assert_eq!(asks.looks(), 0);
}

fn beside(poll: &Played, nested: Box<dyn Trigger>) -> Any {
    Any::of([("poll", Box::new(poll.clone()) as Box<dyn Trigger>), ("nested", nested)])
}

#[tokio::test]
async fn one_with_others_inside_is_looked_at_whenever_something_has_come_for_it() {
    let go = || Signal::new("go");
    let nested: [(Box<dyn Trigger>, _); 3] = [
        (Box::new(All::default().and("go", go()).and("on", Signal::new("on"))), json!({ "go": 1, "on": 2 })),
        (Box::new(Any::default().or("go", go()).or("late", Timer::after(3600 * SECOND))), json!({ "go": 1 })),
        (Box::new(NotBefore::after(10 * SECOND, go())), json!(1)),
    ];
    for (nested, payload) in nested {
        let poll = Played::of([Goes::NotYet]).every(60 * SECOND);
        let (any, mut looker) = (beside(&poll, nested), Looker::new());
        looker.look(&any).await;
        looker.turn(10 * SECOND);
        assert!(looker.look(&any).await.is_not_yet());
        looker.arrives(Key::Signal("on".to_owned()), 2);
        assert!(looker.look(&any).await.is_not_yet());
        looker.arrives(Key::Signal("go".to_owned()), 1);
        assert_eq!(looker.look(&any).await.fired(), json!({ "resume": { "nested": payload } }));
        assert_eq!(poll.looks(), 1, "what came was not for it");
    }
}

#[tokio::test]
async fn one_that_can_never_fire_is_left_out_whatever_comes() {
    let dead = Played::of([Goes::NeverCan]);
    let nested = All::default().and("dead", dead.clone()).and("go", Any::default().or("go", Signal::new("go")));
    let (any, mut looker) = (beside(&Played::of([Goes::NotYet]), Box::new(nested)), Looker::new());
    assert!(looker.look(&any).await.is_not_yet());
    looker.arrives(Key::Signal("go".to_owned()), 1);
    assert!(looker.look(&any).await.is_not_yet());
    assert_eq!(dead.looks(), 1);
}

#[tokio::test]
async fn one_that_ends_the_task_ends_it() {
    let any = two(&Played::of([Goes::Skips]), &Played::of([Goes::NotYet]));
    assert_eq!(Looker::new().look(&any).await.fired(), json!({ "skip": "not needed" }));
}

#[tokio::test]
async fn each_has_a_memory_of_its_own() {
    let (three, never) = (Played::of([Goes::Counts(3)]), Played::of([Goes::Counts(99)]));
    let (any, mut looker) = (two(&three, &never), Looker::new());
    for _ in 0..2 {
        assert!(looker.look(&any).await.is_not_yet());
        looker.turn(SECOND);
    }
    assert_eq!(looker.look(&any).await.fired(), json!({ "resume": { "one": 3 } }));
}

#[tokio::test]
async fn only_the_one_that_fired_is_told_and_all_are_let_go() {
    let (wins, loses) = (Played::of([Goes::Fires(1)]), Played::of([Goes::NotYet]));
    let (any, mut looker) = (two(&wins, &loses), Looker::new());
    looker.look(&any).await.fired();
    looker.ends(&any).await;
    assert_eq!(wins.seen(), [Seen::Look, Seen::Settled(Receipt::Accepted), Seen::CleanUp]);
    assert!(loses.seen().ends_with(&[Seen::CleanUp]) && loses.seen().len() <= 2, "{:?}", loses.seen());
}

#[tokio::test]
async fn all_are_undone() {
    let (one, other) = (Played::of([Goes::NotYet]), Played::of([Goes::NotYet]));
    Looker::new().cancels(&two(&one, &other)).await.unwrap();
    assert_eq!((one.seen(), other.seen()), (vec![Seen::OnCancel], vec![Seen::OnCancel]));
}

#[tokio::test]
async fn a_timer_that_falls_due_during_a_look_is_not_put_off() {
    let timer = || Timer::after(60 * SECOND);
    let wholes: [Box<dyn Trigger>; 3] = [
        Box::new(Any::default().or("timer", timer()).or("signal", Signal::new("go"))),
        Box::new(All::default().and("timer", timer()).and("asks", Played::of([Goes::Fires(1)]))),
        Box::new(NotBefore::after(SECOND, timer())),
    ];
    for (whole, early) in wholes.iter().flat_map(|whole| (0..20).map(move |early| (whole, early))) {
        let mut looker = Looker::new().ticking();
        looker.turn(60 * SECOND - Duration::from_millis(early));
        let look = looker.look(&**whole).await;
        assert!(!look.is_not_yet() || look.next.is_some_and(|next| next <= 20), "{early} ms early: {look:?}");
    }
}

#[test]
fn the_first_look_is_when_the_first_of_them_is_due() {
    let keys = vec![Key::Signal("go".to_owned())];
    let since = Timestamp::UNIX_EPOCH;
    let passive = || Any::default().or("timer", Timer::after(SECOND)).or("signal", Signal::new("go"));
    assert_eq!(passive().wait(since), Wait::Mixed { from: Some(since + SECOND), keys: keys.clone() });
    let active = passive().or("active", Played::of([Goes::NotYet]));
    assert_eq!(active.wait(since), Wait::Mixed { from: Some(since), keys: keys.clone() });
    let signal = Any::default().or("signal", Signal::new("go"));
    assert_eq!(signal.wait(since), Wait::Mixed { from: None, keys });
}

#[test]
fn what_can_never_work_inside_is_refused_with_its_name() {
    for (any, part) in [
        (Any::default(), "0 triggers inside"),
        (Any::default().or("", Signal::new("go")), "1 to 64 bytes"),
        (Any::default().or("paid", Signal::new("")), "paid: signal: `key` is empty"),
        (Any::default().or("nested", Any::default()), "nested: any: it has 0"),
    ] {
        let said = any.validate().unwrap_err().to_string();
        assert!(said.contains(part), "{said}");
    }
}
