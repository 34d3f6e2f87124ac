//! Fires when one of several does.

use std::{collections::BTreeMap, time::Duration};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use reveille_trigger::{
    Answer, Context, Error, Event, Memory, Outcome, Receipt, Spacing, Timestamp, Trigger, Wait, async_trait, look,
    pace::back_off, typetag,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::inside::{self, Kept, MARGIN, Named, Pace, Reasons, later};

/// How close two looks at one of them may be, whatever it asks for: if they left no time in between, the others would not
/// get their turn on the thread.
const CLOSEST: Duration = Duration::from_millis(10);

/// Fires as soon as one of those inside does. The payload is an object with one entry: its name, and what it fired. In
/// Rust that reads as an enum.
///
/// Its spec is an object of triggers by names: `{"paid": {"signal": {"key": "order-42/paid"}}, "late": {"timer": {"after": "2h"}}}`.
///
/// - Each is looked at as far apart as it says, and at once when something has arrived for it; it backs off by itself, and
///   one that is slow delays no other. Those that only ask the clock or for what has arrived are asked first, in the order
///   of their names; of the others that is taken which answers first.
/// - One that ends the task ends it. One that can never fire is left out; the wait ends badly once none can.
/// - One that cannot tell is an error once none of those with checks to make can.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Any(#[serde(deserialize_with = "inside::read")] Named);

impl Any {
    /// The first of several, each under its name.
    pub fn of<N: Into<String>>(named: impl IntoIterator<Item = (N, Box<dyn Trigger>)>) -> Self {
        Self(named.into_iter().map(|(name, trigger)| (name.into(), trigger)).collect())
    }

    /// One more, under its name.
    #[must_use]
    pub fn or(mut self, name: impl Into<String>, trigger: impl Trigger + 'static) -> Self {
        self.0.insert(name.into(), Box::new(trigger));
        self
    }

    /// How long looks at those that don't last may take.
    fn longest(&self) -> Duration {
        inside::time_outs(&self.0).flatten().max().unwrap_or_default()
    }
}

#[typetag::serde(name = "any")]
#[async_trait]
impl Trigger for Any {
    async fn check(&self, cx: &Context) -> Result<Answer, Error> {
        Race::new(self, cx).run().await
    }

    fn validate(&self) -> Result<(), Error> {
        inside::validate(&self.0)
    }

    fn wait(&self, since: Timestamp) -> Wait {
        let reasons: Vec<Reasons> = self.0.values().map(|trigger| Reasons::of(&**trigger, since)).collect();
        let from = reasons.iter().filter_map(|reasons| reasons.from).min();
        Wait::Mixed { from, keys: reasons.into_iter().flat_map(|reasons| reasons.keys).collect() }
    }

    fn spacing(&self) -> Spacing {
        inside::spacing(&self.0)
    }

    fn destination(&self) -> Option<String> {
        inside::destination(&self.0)
    }

    /// While some are looked at, others fall due and are looked at too, once more.
    fn time_out(&self) -> Option<Duration> {
        let lasts = inside::time_outs(&self.0).any(|limit| limit.is_none());
        if lasts { None } else { Some(self.longest().saturating_mul(2).saturating_add(MARGIN)) }
    }

    fn consumes(&self) -> bool {
        self.0.values().any(|trigger| trigger.consumes())
    }

    fn inside(&self) -> Vec<&dyn Trigger> {
        self.0.values().map(|trigger| &**trigger).collect()
    }

    async fn settled(&self, cx: &Context, receipt: Receipt) {
        inside::settled(&self.0, cx, receipt).await;
    }

    async fn cleanup(&self, cx: &Context) {
        inside::cleanup(&self.0, cx).await;
    }

    async fn on_cancel(&self, cx: &Context) -> Result<(), Error> {
        inside::on_cancel(&self.0, cx).await
    }
}

/// One of those inside, in one look at the whole.
struct Lane<'a> {
    name: &'a str,
    trigger: &'a dyn Trigger,
    is_passive: bool,
    is_running: bool,
    pace: Pace,
    memory: Memory,
    /// What this look at it saw, or why it could not tell.
    said: Option<String>,
}

struct Looked {
    lane: usize,
    begun: Timestamp,
    cx: Context,
    answer: Result<Answer, Error>,
}

impl Lane<'_> {
    /// What it saw at this look, or that it could not tell at an earlier one and backs off.
    fn told(&self) -> Option<String> {
        let said = self.said.as_deref().or((self.pace.failures > 0).then_some("could not tell"));
        said.map(|said| format!("{}: {said}", self.name))
    }
}

/// One look at all of them.
struct Race<'a> {
    cx: &'a Context,
    lanes: Vec<Lane<'a>>,
    running: FuturesUnordered<BoxFuture<'a, Looked>>,
    /// From then on nothing more is begun, so that the look comes to an end; none if one lasts.
    until: Option<Timestamp>,
    /// Whether one of those looked at could not tell.
    has_erred: bool,
}

impl<'a> Race<'a> {
    fn new(any: &'a Any, cx: &'a Context) -> Self {
        let mut kept: Kept = cx.take().unwrap_or_default();
        let lanes = any.0.iter().map(|(name, trigger)| Lane {
            name,
            trigger: &**trigger,
            is_passive: inside::is_passive(&**trigger, cx.since()),
            is_running: false,
            pace: kept.paces.remove(name).unwrap_or_default().told(inside::come(&**trigger, cx)),
            memory: kept.memories.remove(name).unwrap_or_default(),
            said: None,
        });
        let until = any.time_out().map(|_| later(cx.now(), any.longest()));
        Self { cx, lanes: lanes.collect(), running: FuturesUnordered::new(), until, has_erred: false }
    }

    async fn run(mut self) -> Result<Answer, Error> {
        for lane in 0..self.lanes.len() {
            if self.lanes[lane].is_passive {
                let looked = self.look(lane).await;
                if let Some(event) = self.note(looked) {
                    return Ok(self.fire(lane, event));
                }
            }
        }
        loop {
            self.begin();
            if self.running.is_empty() {
                return self.not_yet();
            }
            let idle = self.lanes.iter().filter(|lane| !lane.is_running).filter_map(|lane| lane.pace.due).min();
            let now = self.cx.now();
            let pause = idle.filter(|_| !self.is_over(now)).map_or(Duration::MAX, |due| until(now, due));
            let Ok(Some(looked)) = tokio::time::timeout(pause, self.running.next()).await else { continue };
            let lane = looked.lane;
            if let Some(event) = self.note(looked) {
                return Ok(self.fire(lane, event));
            }
        }
    }

    /// Begins what is due. What asks nobody has been asked; it is once more when it falls due.
    fn begin(&mut self) {
        let now = self.cx.now();
        if self.is_over(now) {
            return;
        }
        for lane in 0..self.lanes.len() {
            let Lane { is_running, pace, .. } = self.lanes[lane];
            if !is_running && pace.due.is_none_or(|due| due <= now) {
                let look = self.look(lane);
                self.lanes[lane].is_running = true;
                self.running.push(look);
            }
        }
    }

    fn is_over(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| now > until)
    }

    fn look(&mut self, lane: usize) -> BoxFuture<'a, Looked> {
        let Lane { trigger, memory, .. } = &mut self.lanes[lane];
        let (trigger, cx) = (*trigger, self.cx.inside(std::mem::take(memory)));
        async move {
            let begun = cx.now();
            let answer = look(trigger, &cx).await;
            Looked { lane, begun, cx, answer }
        }
        .boxed()
    }

    /// Notes how a look came out; its event, if it fired.
    fn note(&mut self, looked: Looked) -> Option<Event> {
        let Looked { lane, begun, cx, answer } = looked;
        let (now, lane) = (cx.now(), &mut self.lanes[lane]);
        lane.is_running = false;
        lane.said = cx.said();
        let event = match answer {
            Ok(Answer::Fire(event)) => Some(event),
            Ok(Answer::NotYet) => {
                lane.pace = Pace { due: Some(inside::next_look(lane.trigger, &cx, begun)), failures: 0, ..lane.pace };
                None
            }
            Err(error) => {
                lane.pace.failures = lane.pace.failures.saturating_add(1);
                let interval = lane.trigger.spacing().interval(cx.waited());
                let backed_off = later(now, back_off(interval, lane.pace.failures, error.retry_after()));
                let again = cx.next_look().map_or(backed_off, |asked| asked.min(backed_off));
                lane.pace.is_dead = error.is_fatal();
                lane.pace.due = Some(if error.is_fatal() { Timestamp::MAX } else { again });
                lane.said = Some(error.to_string());
                self.has_erred = true;
                None
            }
        };
        lane.pace.due = lane.pace.due.map(|due| due.max(later(now, CLOSEST)));
        lane.memory = cx.into_memory();
        event
    }

    /// The answer of the whole: the event is of the one that fired, and is told apart by its name.
    fn fire(self, lane: usize, event: Event) -> Answer {
        let name = self.lanes[lane].name;
        let fired = Some(name.to_owned());
        let memories = self.lanes.into_iter().map(|lane| (lane.name.to_owned(), lane.memory)).collect();
        self.cx.remember(Kept { memories, fired, ..Kept::default() });
        Answer::Fire(match event.outcome {
            Outcome::Resume(payload) => Event { outcome: Outcome::Resume(json!({ name: payload })), ..event },
            Outcome::Succeed(_) | Outcome::Fail(_) | Outcome::Skip(_) => event,
        })
    }

    fn not_yet(self) -> Result<Answer, Error> {
        let said: Vec<String> = self.lanes.iter().filter_map(Lane::told).collect();
        let said = said.join("; ");
        if self.lanes.iter().all(|lane| lane.pace.is_dead) {
            return Err(Error::fatal(said));
        }
        let (mut live, mut blind) = (0, 0);
        for lane in self.lanes.iter().filter(|lane| !lane.is_passive && !lane.pace.is_dead) {
            live += 1;
            blind += u32::from(lane.pace.failures > 0);
        }
        let due = self.lanes.iter().filter_map(|lane| lane.pace.due).min().unwrap_or(Timestamp::MAX);
        self.cx.look_again_at(due);
        let (cx, has_erred) = (self.cx, self.has_erred);
        self.keep();
        if has_erred && live > 0 && blind == live {
            // An earlier look would ask nobody, and be taken for one that could tell.
            return Err(Error::again(said).after(until(cx.now(), due)));
        }
        if !said.is_empty() {
            cx.say(said);
        }
        Ok(Answer::NotYet)
    }

    /// Leaves the next look what it needs, and nothing if it needs nothing: what remembers something does not go dormant.
    fn keep(self) {
        let paces = self.lanes.iter().filter(|lane| !lane.is_passive);
        let paces: BTreeMap<String, Pace> = paces.map(|lane| (lane.name.to_owned(), lane.pace)).collect();
        let memories = self.lanes.into_iter().filter(|lane| !lane.memory.is_empty());
        let memories: BTreeMap<String, Memory> = memories.map(|lane| (lane.name.to_owned(), lane.memory)).collect();
        let backs_off = paces.values().any(|pace| pace.failures > 0 && !pace.is_dead);
        if paces.len() > 1 || backs_off || !memories.is_empty() {
            self.cx.remember(Kept { memories, paces, fired: None });
        }
    }
}

fn until(now: Timestamp, due: Timestamp) -> Duration {
    due.duration_since(now).try_into().unwrap_or_default()
}
