//! Visits every state of a model, the nearest first.
//!
//! States are kept whole, so that two never pass for one, and those that differ by names alone are one. A state is wrong
//! if it breaks a rule, or if from there no settled state can be reached without a further fault: whatever waits then waits
//! for ever. That is asked of the graph, backwards from the settled states; a search that only follows paths to their ends
//! would not see a circle that nothing leads out of.

use std::{
    fmt::{self, Debug, Display},
    hash::Hash,
};

use foldhash::fast::FixedState;
use indexmap::IndexSet;

/// What can happen, and what must not.
pub(crate) trait Model {
    type State: Copy + Eq + Hash + Debug;
    type Action: Copy + Display;

    fn start(&self) -> Self::State;

    /// Tells everything that can happen in a state, and what comes of it.
    fn each_next(&self, state: &Self::State, found: &mut impl FnMut(Self::Action, Self::State));

    /// The one that stands for all states that differ from this by names alone.
    fn canonical(&self, state: &Self::State) -> Self::State;

    /// Whether it is something going wrong, or being given up: no wait may depend on it.
    fn is_fault(action: Self::Action) -> bool;

    /// The rule that a state breaks.
    fn breach(&self, state: &Self::State) -> Option<&'static str>;

    /// Whether everything is over that was to be done, and all agree on it.
    fn is_settled(&self, state: &Self::State) -> bool;
}

/// Why a model is wrong.
pub(crate) const STUCK: &str = "from here nothing is ever settled without another fault";

/// What there was to see.
#[derive(Debug)]
pub(crate) struct Explored {
    pub(crate) states: usize,
    pub(crate) steps: usize,
}

/// A way to a wrong state; the shortest, if the state itself breaks a rule.
pub(crate) struct Counterexample {
    pub(crate) breach: &'static str,
    pub(crate) trace: Vec<String>,
    last: String,
}

impl Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, after:", self.breach)?;
        for (step, action) in self.trace.iter().enumerate() {
            writeln!(f, "{:>4}. {action}", step + 1)?;
        }
        write!(f, "{}", self.last)
    }
}

/// More states than this are a mistake in a model, and not to be waited for.
const MOST: usize = 300_000_000;

/// The states, how each was come to first, and the steps between them that are no faults.
struct Graph<'a, M: Model> {
    model: &'a M,
    states: IndexSet<M::State, FixedState>,
    parents: Vec<u32>,
    /// Where the steps of each state begin.
    starts: Vec<usize>,
    steps: Vec<u32>,
}

/// Explores a model to its ends.
pub(crate) fn explore<M: Model>(model: &M) -> Result<Explored, Counterexample> {
    let mut graph = Graph {
        model,
        states: IndexSet::with_hasher(FixedState::default()),
        parents: vec![0],
        starts: vec![0],
        steps: Vec::new(),
    };
    graph.states.insert(model.canonical(&model.start()));
    let mut taken = 0;
    let mut at = 0;
    while let Some(state) = graph.states.get_index(at).copied() {
        if let Some(breach) = model.breach(&state) {
            return Err(graph.counterexample(at, breach));
        }
        let Graph { states, parents, steps, .. } = &mut graph;
        model.each_next(&state, &mut |action, next| {
            taken += 1;
            let (to, is_new) = states.insert_full(model.canonical(&next));
            if is_new {
                parents.push(at as u32);
            }
            if to != at && !M::is_fault(action) {
                steps.push(to as u32);
            }
        });
        graph.starts.push(graph.steps.len());
        at += 1;
        if at.is_power_of_two()
            && let Some(at) = graph.stuck()
        {
            return Err(graph.counterexample(at, STUCK));
        }
        assert!(at < MOST, "over {MOST} states");
    }
    match graph.stuck() {
        Some(at) => Err(graph.counterexample(at, STUCK)),
        None => Ok(Explored { states: graph.states.len(), steps: taken }),
    }
}

impl<M: Model> Graph<'_, M> {
    /// The first state from which no settled one can be reached. What has not been visited yet is taken for settled, so that
    /// a state that is stuck is found as soon as all that it leads to was visited.
    fn stuck(&self) -> Option<usize> {
        let (count, visited) = (self.states.len(), self.starts.len() - 1);
        let mut ends = vec![0_usize; count + 1];
        for to in &self.steps {
            ends[*to as usize] += 1;
        }
        let mut total = 0;
        for end in &mut ends {
            total += *end;
            *end = total;
        }
        let mut back = vec![0_u32; self.steps.len()];
        for from in 0..visited {
            for to in &self.steps[self.starts[from]..self.starts[from + 1]] {
                ends[*to as usize] -= 1;
                back[ends[*to as usize]] = from as u32;
            }
        }
        let is_settled = |(at, state)| at >= visited || self.model.is_settled(state);
        let mut settles: Vec<bool> = self.states.iter().enumerate().map(is_settled).collect();
        let mut open: Vec<usize> = (0..count).filter(|at| settles[*at]).collect();
        while let Some(at) = open.pop() {
            for from in &back[ends[at]..ends[at + 1]] {
                if !std::mem::replace(&mut settles[*from as usize], true) {
                    open.push(*from as usize);
                }
            }
        }
        settles.iter().position(|settles| !settles)
    }

    /// Walks again from the start, under the names that things have there.
    fn counterexample(&self, at: usize, breach: &'static str) -> Counterexample {
        let mut way = vec![at];
        while let Some(at) = way.last().filter(|at| **at != 0) {
            way.push(self.parents[*at] as usize);
        }
        let mut state = self.model.start();
        let mut trace = Vec::new();
        for at in way.into_iter().rev().skip(1) {
            let mut step = None;
            self.model.each_next(&state, &mut |action, next| {
                if self.states.get_index_of(&self.model.canonical(&next)) == Some(at) {
                    step = Some((action, next));
                }
            });
            let (action, next) = step.expect("it was come to by a step");
            trace.push(action.to_string());
            state = next;
        }
        Counterexample { breach, trace, last: format!("{state:?}") }
    }
}

/// Explores a model in which nothing is wrong.
#[track_caller]
pub(crate) fn holds<M: Model>(name: &str, model: &M) {
    match explore(model) {
        Ok(explored) => println!("{name}: {} states, {} steps", explored.states, explored.steps),
        Err(found) => panic!("{name}: {found}"),
    }
}

/// Explores a model from which a rule was taken away, and tells which other breaks then.
#[track_caller]
pub(crate) fn breaks<M: Model>(model: &M, breach: &str) {
    match explore(model) {
        Ok(explored) => panic!("not found in {} states: {breach}", explored.states),
        Err(found) => {
            println!("{found}");
            assert_eq!(found.breach, breach, "{found}");
        }
    }
}

mod tests {
    use super::{Model, STUCK, breaks, explore, holds};

    /// Two counters that go up to three, each under either name; from `pit` on there is no way out but a fault.
    struct Counters {
        forbidden: Option<[u8; 2]>,
        pit: Option<u8>,
    }

    impl Model for Counters {
        type State = [u8; 2];
        type Action = &'static str;

        fn start(&self) -> [u8; 2] {
            [0, 0]
        }

        fn each_next(&self, state: &[u8; 2], found: &mut impl FnMut(&'static str, [u8; 2])) {
            let [left, right] = *state;
            if self.pit.is_some_and(|pit| pit == left + right) {
                // A circle: it goes on for ever, and nowhere.
                return found("turn", [right, left]);
            }
            if left < 3 {
                found("left", [left + 1, right]);
            }
            if right < 3 {
                found("right", [left, right + 1]);
            }
        }

        fn canonical(&self, state: &[u8; 2]) -> [u8; 2] {
            let [left, right] = *state;
            [left.min(right), left.max(right)]
        }

        fn is_fault(_: &'static str) -> bool {
            false
        }

        fn breach(&self, state: &[u8; 2]) -> Option<&'static str> {
            (Some(*state) == self.forbidden).then_some("forbidden")
        }

        fn is_settled(&self, state: &[u8; 2]) -> bool {
            *state == [3, 3]
        }
    }

    #[test]
    fn every_state_is_visited_once_whatever_its_names() {
        let model = Counters { forbidden: None, pit: None };
        let explored = explore(&model).ok().unwrap();
        assert_eq!((explored.states, explored.steps), (10, 15));
        holds("counters", &model);
    }

    #[test]
    fn the_shortest_way_to_a_wrong_state_is_told() {
        let found = explore(&Counters { forbidden: Some([1, 2]), pit: None }).err().unwrap();
        assert_eq!((found.breach, found.trace.len()), ("forbidden", 3));
    }

    #[test]
    fn a_circle_that_nothing_leads_out_of_is_found() {
        breaks(&Counters { forbidden: None, pit: Some(4) }, STUCK);
    }
}
