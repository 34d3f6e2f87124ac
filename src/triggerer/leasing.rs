//! The leasing loop: what there is room for, what has come for what is held, and whether the database and we agree.
//!
//! Looking takes the database about as long as reading what it found takes us, so that both go on at once: a full lot is
//! read while the next look is under way. The database knows of it as ours meanwhile. It is read before anything else is
//! asked, and at once if that look fails: what we hold is run, outage or not.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    Life,
    checks::Arrival,
    home::{Leases, Taken, Unreadable},
    sharing::{self, Sharing},
};
use crate::{
    error::Result,
    outage::{Turn, jittered, turns},
    presence::Asked,
    store::wake::Topic,
    upkeep::POLL,
};

impl Life<'_> {
    /// Takes what there is room for, hears what has come for what it holds, and makes sure now and then that the database and we agree on what we hold.
    pub(super) async fn lease(&self, stop: &CancellationToken, arrived: &mpsc::Sender<Arrival>) {
        let (clock, wake) = (self.store.clock(), self.store.wake());
        let (sharing, unread) = (Sharing::default(), Mutex::default());
        let woken = || {
            let (waiting, freed) = (wake.on(Topic::Waiting), self.holdings.freed());
            let cancelled = wake.on(Topic::Cancelled);
            let doubt = &self.doubt;
            async move {
                tokio::select! {
                    biased;
                    () = cancelled => drop(doubt.raise()),
                    () = waiting => {}
                    () = freed => {}
                }
            }
        };
        turns("leasing triggers", clock, stop, woken, || self.lease_turn(&sharing, &unread, arrived)).await;
    }

    /// One look. What a full one brought is read while the next is under way.
    async fn lease_turn<'home>(
        &'home self,
        sharing: &Sharing,
        unread: &Mutex<Taken<'home>>,
        arrived: &mpsc::Sender<Arrival>,
    ) -> Result<(Turn, Duration)> {
        let take_unread = || std::mem::take(&mut *unread.lock().expect("nothing panics while it is held"));
        if self.presence.is_parked() {
            self.adopt_all(take_unread(), arrived).await;
            return Ok((Turn::Unasked, POLL));
        }
        let renewals = self.presence.renewals();
        let asked = self.doubt.is_due(renewals, self.presence.reconnections());
        // Nothing stays unread while the database is asked for anything but more.
        let is_the_last = self.holdings.room() <= unread.lock().expect("nothing panics while it is held").count;
        if asked.is_some() || sharing.is_due(renewals) || is_the_last {
            self.adopt_all(take_unread(), arrived).await;
        }
        let pause = self.look_around(asked, sharing, arrived).await?;
        let last = take_unread();
        let room = self.holdings.room().saturating_sub(last.count).min(self.reach.rows());
        let (taken, ()) = tokio::join!(self.take(room), self.adopt_all(last, arrived));
        let taken = taken?;
        if room > 0 && taken.count == room {
            *unread.lock().expect("nothing panics while it is held") = taken;
            return Ok((Turn::Full, Duration::ZERO));
        }
        self.adopt_all(taken, arrived).await;
        Ok((Turn::Idle, pause.min(jittered(POLL))))
    }

    /// Makes sure that the database and we agree, if that was asked for, and looks at the others, if it is time to.
    async fn look_around(
        &self,
        asked: Option<Asked>,
        sharing: &Sharing,
        arrived: &mpsc::Sender<Arrival>,
    ) -> Result<Duration> {
        if let Some(asked) = asked {
            // Where no answer was lost, all that is mine I know of, and what I hold can only be more than that.
            let agrees = asked.is_routine(&self.doubt) && self.home.count_held().await? == self.holdings.len();
            if !agrees {
                self.agree(arrived).await?;
            }
            self.doubt.settle(asked);
        }
        sharing::turn(self, sharing).await
    }

    async fn take(&self, room: usize) -> Result<Taken<'_>> {
        let began = self.store.clock().monotonic();
        // Until the answer is here, or if it never comes.
        let raised = self.doubt.raise();
        let taken = self.home.lease(room, &self.aside).await.inspect_err(|_| self.reach.note(None))?;
        self.doubt.lower(raised);
        if room > 0 && taken.count == room && room == self.reach.rows() {
            self.reach.note(Some(self.store.clock().monotonic().saturating_sub(began)));
        }
        Ok(taken)
    }

    /// Adopts what the database says is ours and we don't run, and drops what we run and is not ours.
    async fn agree(&self, arrived: &mpsc::Sender<Arrival>) -> Result<()> {
        let before = self.holdings.fences();
        let (fences, leases) = self.home.held(&before).await?;
        let surplus = self.holdings.drop_all_but(fences.into_iter());
        if surplus > 0 {
            tracing::info!(triggers = surplus, "dropped {surplus} trigger(s) that are no longer mine");
        }
        self.adopt(leases, arrived).await;
        Ok(())
    }

    /// A lot at a time, so that whatever is done beside it is not kept waiting.
    async fn adopt_all(&self, taken: Taken<'_>, arrived: &mpsc::Sender<Arrival>) {
        for leases in taken {
            self.adopt(leases, arrived).await;
            tokio::task::yield_now().await;
        }
    }

    async fn adopt(&self, leases: Leases, arrived: &mpsc::Sender<Arrival>) {
        for unreadable in &leases.unreadable {
            let task = unreadable.fence.task;
            tracing::warn!(task.id = %task, "set the trigger of task {task} aside for others: {}", unreadable.error.chain());
            self.aside.set(task, &unreadable.kinds);
        }
        if !leases.unreadable.is_empty() {
            let back: Vec<_> = leases.unreadable.iter().map(Unreadable::given_back).collect();
            match self.home.release(&back).await {
                Ok(released) if released == back.len() => {}
                // They are mine until they are found to be, and held by nobody.
                Ok(_) => drop(self.doubt.raise()),
                Err(error) => {
                    self.doubt.raise();
                    tracing::debug!("will give them back when the database and we agree again: {}", error.chain());
                }
            }
        }
        let news = leases.news.into_iter().filter(|(fence, came)| self.holdings.tell(*fence, Arc::clone(came)));
        let news: Vec<Arrival> = news.map(|(fence, _)| Arrival::News(fence)).collect();
        self.settings.tally.leased(leases.readable.len());
        let leased = leases.readable.into_iter().map(|leased| {
            let fence = leased.fence;
            self.holdings.hold(leased);
            Arrival::Leased(fence)
        });
        for arrival in leased.chain(news) {
            // Closed only once the checks have stopped; the hand-over then covers it.
            if arrived.send(arrival).await.is_err() {
                break;
            }
        }
        self.presence.set_running(self.holdings.len());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashSet, VecDeque};

    use async_trait::async_trait;
    use reveille_trigger::Receipt;
    use reveille_wait::Timer;

    use super::*;
    use crate::{
        aside::Aside,
        error::Error,
        id::{Fence, Incarnation, TaskId},
        presence::Presence,
        store::{
            BATCH, Url, Verdict,
            check::Report,
            event::Firing,
            replica::{Card, Role},
            scratch::Scratch,
            trigger::Release,
            undo::Undone,
        },
        triggerer::{
            Settings,
            holding::Holdings,
            home::{Home, Leased, Undoing},
            share::Fleet,
        },
    };

    /// Answers each look with as many triggers as it is told to, or not at all, and knows what each had room for, and how
    /// many were held by then.
    #[derive(Debug)]
    struct Told {
        answers: Mutex<VecDeque<Option<usize>>>,
        holdings: Arc<Holdings>,
        asked: Mutex<Vec<(usize, usize)>>,
        /// How many were run each time that it was compared what is held.
        compared: Mutex<Vec<usize>>,
    }

    #[async_trait]
    impl Home for Told {
        async fn lease<'a>(&'a self, limit: usize, _: &Aside) -> Result<Taken<'a>> {
            self.asked.lock().unwrap().push((limit, self.holdings.len()));
            let Some(count) = self.answers.lock().unwrap().pop_front().unwrap() else {
                return Err(Error::Outage { doing: "leasing", source: "gone".into() });
            };
            let lease = || Leased::new(Fence { task: TaskId::mint(), generation: 1 }, Box::new(Timer::after(POLL)));
            let lot =
                move || Leases { readable: std::iter::repeat_with(lease).take(count).collect(), ..Leases::default() };
            Ok(Taken::new(count, std::iter::once_with(lot)))
        }

        async fn free(&self, _: usize, _: &Aside) -> Result<usize> {
            Ok(0)
        }

        async fn fleet(&self, _: &Aside) -> Result<Option<Fleet>> {
            Ok(None)
        }

        async fn count_held(&self) -> Result<usize> {
            Ok(self.holdings.len())
        }

        async fn held(&self, running: &HashSet<Fence>) -> Result<(Vec<Fence>, Leases)> {
            self.compared.lock().unwrap().push(running.len());
            Ok((running.iter().copied().collect(), Leases::default()))
        }

        async fn fire(&self, _: Vec<Firing>) -> Result<Vec<Receipt>> {
            unreachable!("nothing is fired")
        }

        async fn fail(&self, _: Vec<Verdict>) -> Result<()> {
            unreachable!("nothing fails")
        }

        async fn release(&self, _: &[Release]) -> Result<usize> {
            unreachable!("nothing is given back")
        }

        async fn report(&self, _: &[Report]) -> Result<()> {
            unreachable!("nothing is checked")
        }

        async fn cancelled(&self, _: usize) -> Result<Vec<Undoing>> {
            unreachable!("nothing is cancelled")
        }

        async fn undone(&self, _: Fence, _: Undone) -> Result<()> {
            unreachable!("nothing is cancelled")
        }
    }

    #[tokio::test]
    async fn a_lot_is_read_beside_the_next_look_even_if_that_fails_and_before_anything_else() {
        let scratch = Scratch::make(&Url::Sqlite("near".into()), "reveille_leasing").await.unwrap();
        let store = scratch.open().await.unwrap();
        // It renews once as it joins, and then not before this is over.
        let settings =
            Settings { capacity: 4 * BATCH + BATCH / 2, lease: Duration::from_mins(10), ..Settings::default() };
        let card = Card {
            incarnation: Incarnation::mint(),
            role: Role::Triggerer,
            label: "leasing".to_owned(),
            lease: settings.lease,
            capacity: i32::MAX,
            kinds: Vec::new(),
            queues: None,
        };
        let presence = Presence::join(&store, card, settings.lease).await.unwrap();
        let renewed = async {
            while presence.renewals() == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), renewed).await.unwrap();
        let mut life = Life::new(&store, &settings, presence);
        let half = BATCH / 2;
        let told = Arc::new(Told {
            answers: Mutex::new([Some(BATCH), None, Some(BATCH), Some(BATCH), Some(BATCH), Some(half), Some(0)].into()),
            holdings: Arc::clone(&life.holdings),
            asked: Mutex::default(),
            compared: Mutex::default(),
        });
        life.home = Arc::<Told>::clone(&told);
        let (sharing, not_looked, unread) = (Sharing::default(), Sharing::default(), Mutex::default());
        let (arrived, arrivals) = mpsc::channel(settings.capacity);

        let mut turns = Vec::new();
        let looks = [&sharing, &sharing, &sharing, &sharing, &not_looked, &not_looked, &not_looked];
        for (number, sharing) in looks.into_iter().enumerate() {
            if number == 3 {
                life.doubt.raise();
            }
            turns.push(life.lease_turn(sharing, &unread, &arrived).await.ok().map(|(turn, _)| turn));
        }
        let full = |turn: &Option<Turn>| matches!(turn, Some(Turn::Full));
        assert!(full(&turns[0]) && turns[1].is_none() && turns[2..6].iter().all(full));
        assert!(matches!(turns[6], Some(Turn::Idle)));
        let asked = [
            (BATCH, 0),
            // Fails beside the first lot.
            (BATCH, 0),
            // Twice in doubt: it is compared what is held.
            (BATCH, BATCH),
            (BATCH, 2 * BATCH),
            // After a look at the others.
            (BATCH, 3 * BATCH),
            // Room is counted without what is not read yet.
            (half, 3 * BATCH),
            // After a lot that took up the room.
            (0, settings.capacity),
        ];
        assert_eq!(*told.asked.lock().unwrap(), asked);
        assert_eq!(*told.compared.lock().unwrap(), [BATCH, 2 * BATCH]);
        assert_eq!((life.holdings.len(), arrivals.len()), (settings.capacity, settings.capacity));
        drop(unread);
        life.leave().await;
        scratch.remove().await.unwrap();
    }
}
