//! What there is to know: the rows, and each process with what it runs and waits for.

use std::cmp::Ordering;

pub(super) const REPLICAS: usize = 3;
pub(super) const TRIGGERS: usize = 2;

/// How often each task waits.
pub(super) const GENERATIONS: u8 = 2;

/// How often a process joins: it may be declared gone and come back.
pub(super) const LIVES: usize = 2;

/// How many triggers a replica holds at most.
pub(super) const CAPACITY: usize = 1;

/// The row of one life of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Row {
    None,
    Live,
    Gone,
    Forgotten,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Process {
    Runs,
    /// It knows that its life is over, stores what it has seen, and will take a new one.
    Ends,
    /// It left or crashed.
    Stopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum What {
    Evidence,
    Verdict,
    Sleep,
}

/// What was found of a trigger, and is not stored for certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Finding {
    pub(super) generation: u8,
    pub(super) what: What,
}

/// A trigger that a process holds: it is in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Holding {
    pub(super) generation: u8,
    /// Whether it is still checked.
    pub(super) is_checked: bool,
}

/// Generations by trigger; 0 for none.
pub(super) type Fences = [u8; TRIGGERS];

/// How far the loop that leases has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Loop {
    Idle,
    Leases,
    /// It knows what it ran as it asked, and what it was said to hold.
    Compares {
        before: Fences,
        mine: Fences,
    },
}

/// A lease under way: a row is locked, and its replica was not gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Begun {
    pub(super) life: u8,
    pub(super) trigger: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Replica {
    pub(super) process: Process,
    pub(super) life: u8,
    pub(super) rows: [Row; LIVES],
    /// The lease that it waits for.
    pub(super) begun: Option<Begun>,
    /// A lease that it has given up, perhaps in its last life.
    pub(super) orphan: Option<Begun>,
    pub(super) leasing: Loop,
    pub(super) doubts: bool,
    pub(super) holdings: [Option<Holding>; TRIGGERS],
    pub(super) findings: [Option<Finding>; TRIGGERS],
}

/// By the database, where the task of a trigger is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Wait {
    Free,
    Held {
        replica: u8,
        life: u8,
    },
    /// Resumed: the task runs, or will.
    Resumed,
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Trigger {
    pub(super) generation: u8,
    pub(super) wait: Wait,
}

/// What is seen to be wrong as it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Broken {
    OtherWait,
    Zombie,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct State {
    pub(super) replicas: [Replica; REPLICAS],
    pub(super) triggers: [Trigger; TRIGGERS],
    pub(super) faults: u8,
    pub(super) broken: Option<Broken>,
}

impl Replica {
    pub(super) fn row(&self) -> Row {
        self.rows[self.life as usize]
    }

    /// The fences of what it has in its slots.
    pub(super) fn runs(&self) -> Fences {
        self.holdings.map(|holding| holding.map_or(0, |holding| holding.generation))
    }

    /// Whether it, or what is under way for it, has nothing left to do.
    pub(super) fn is_idle(&self) -> bool {
        let nothing_begun = self.begun.is_none() && self.orphan.is_none();
        let nothing_held = self.holdings == [None; TRIGGERS] && self.findings == [None; TRIGGERS];
        nothing_begun && nothing_held && self.leasing == Loop::Idle
    }

    /// Whether a lease of this life is under way.
    pub(super) fn is_leasing(&self, life: usize) -> bool {
        [self.begun, self.orphan].iter().flatten().any(|begun| begun.life as usize == life)
    }

    /// As far as the process goes, nothing is left.
    pub(super) fn clear(&mut self) {
        self.leasing = Loop::Idle;
        self.doubts = false;
        self.holdings = [None; TRIGGERS];
        // One that nobody waits for is enough; another rolls back.
        let begun = self.begun.take();
        self.orphan = self.orphan.or(begun);
    }
}

impl State {
    pub(super) fn new(faults: u8) -> Self {
        let replica = Replica {
            process: Process::Runs,
            life: 0,
            rows: [Row::Live, Row::None],
            begun: None,
            orphan: None,
            leasing: Loop::Idle,
            doubts: false,
            holdings: [None; TRIGGERS],
            findings: [None; TRIGGERS],
        };
        Self {
            replicas: [replica; REPLICAS],
            triggers: [Trigger { generation: 1, wait: Wait::Free }; TRIGGERS],
            faults,
            broken: None,
        }
    }

    pub(super) fn is_over(&self, trigger: usize) -> bool {
        self.triggers[trigger].wait == Wait::Over
    }

    /// Whether a lease that is under way has locked it.
    pub(super) fn is_locked(&self, trigger: usize) -> bool {
        let mut begun = self.replicas.iter().flat_map(|replica| [replica.begun, replica.orphan]).flatten();
        begun.any(|begun| begun.trigger as usize == trigger)
    }

    fn names(&self, me: usize, life: usize) -> impl Iterator<Item = usize> {
        (0..TRIGGERS).filter(move |trigger| self.triggers[*trigger].wait == held_by(me, life))
    }

    /// Whether any trigger names this life.
    pub(super) fn is_named(&self, me: usize, life: usize) -> bool {
        self.names(me, life).next().is_some()
    }

    pub(super) fn exceeds(&self, me: usize, life: usize) -> bool {
        self.replicas[me].rows[life] == Row::Live && self.names(me, life).count() > CAPACITY
    }

    /// The fences of what the database says that the present life holds.
    pub(super) fn held(&self, me: usize) -> Fences {
        let mut held = [0; TRIGGERS];
        for trigger in self.names(me, self.replicas[me].life as usize) {
            held[trigger] = self.triggers[trigger].generation;
        }
        held
    }

    /// With what was found too late all the same, as long as all of it is refused.
    pub(super) fn without_late(&self) -> Self {
        let mut without = *self;
        for replica in &mut without.replicas {
            for (finding, trigger) in replica.findings.iter_mut().zip(&self.triggers) {
                if let Some(finding) = finding
                    && (trigger.wait == Wait::Over || finding.generation != trigger.generation)
                {
                    finding.what = What::Evidence;
                }
            }
        }
        without
    }

    /// The least under all names of triggers, with the replicas in their order. Replicas that are equal, and equally named,
    /// are so in any order.
    pub(super) fn least(&self) -> Self {
        let tidy = self.tidy();
        // By what each is without regard to its holder, and only if they are equal in this, by all the rest.
        let [first, second] = tidy.triggers.map(|trigger| match trigger.wait {
            Wait::Held { .. } => Trigger { wait: held_by(0, 0), ..trigger },
            Wait::Free | Wait::Resumed | Wait::Over => trigger,
        });
        match first.cmp(&second) {
            Ordering::Less => tidy.ordered(),
            Ordering::Equal => tidy.ordered().min(tidy.swapped().ordered()),
            Ordering::Greater => tidy.swapped().ordered(),
        }
    }

    fn ordered(&self) -> Self {
        let mut order = [0, 1, 2];
        let named = |me: usize| [0, 1].map(|life| [0, 1].map(|t| self.triggers[t].wait == held_by(me, life)));
        let keys = order.map(|me| (self.replicas[me], named(me)));
        order.sort_unstable_by_key(|me| keys[*me]);
        self.renamed(&order)
    }

    /// Without what makes no difference: the row of a life that nobody leads, nothing names and nothing is under way for,
    /// and how often a task had waited that is over.
    fn tidy(&self) -> Self {
        let mut tidy = *self;
        for (me, replica) in tidy.replicas.iter_mut().enumerate() {
            for life in 0..LIVES {
                let is_led = replica.process != Process::Stopped && life == replica.life as usize;
                let is_gone = matches!(replica.rows[life], Row::Gone | Row::Forgotten);
                if is_gone && !is_led && !replica.is_leasing(life) && !self.is_named(me, life) {
                    replica.rows[life] = Row::None;
                }
            }
            if replica.process == Process::Stopped && replica.rows == [Row::None; LIVES] {
                replica.life = 0;
            }
        }
        for trigger in &mut tidy.triggers {
            if trigger.wait == Wait::Over {
                trigger.generation = GENERATIONS;
            }
        }
        tidy
    }

    fn renamed(&self, order: &[usize; REPLICAS]) -> Self {
        let mut renamed = *self;
        renamed.replicas = order.map(|from| self.replicas[from]);
        for trigger in &mut renamed.triggers {
            if let Wait::Held { replica, .. } = &mut trigger.wait {
                *replica =
                    order.iter().position(|from| *from == *replica as usize).expect("all are in the order") as u8;
            }
        }
        renamed
    }

    /// With the triggers under each other's names.
    fn swapped(&self) -> Self {
        let mut swapped = *self;
        swapped.triggers.reverse();
        for replica in &mut swapped.replicas {
            replica.holdings.reverse();
            replica.findings.reverse();
            for begun in replica.begun.iter_mut().chain(&mut replica.orphan) {
                begun.trigger = 1 - begun.trigger;
            }
            match &mut replica.leasing {
                Loop::Idle | Loop::Leases => {}
                Loop::Compares { before, mine } => {
                    before.reverse();
                    mine.reverse();
                }
            }
        }
        swapped
    }
}

fn held_by(me: usize, life: usize) -> Wait {
    Wait::Held { replica: me as u8, life: life as u8 }
}
