//! Replicas of one election whose networks, machines and processes fail by a seed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dynamo_elector::{
    Call, Elector, Embedded, Fault, Faults, Leadership, LeadershipView, LockClient, Service, WorkResult,
};
use tokio::time::Instant;

use super::journal::Journal;
use crate::support::{millis, refusal, sleep, text};

/// What of the weather is left; each stage has all of the later ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Calm,
    /// No faults that only a human can mend: a candidate pauses for ten polls after one.
    Transient,
    /// Nothing that is still in the network when the faults have stopped.
    Prompt,
    Everything,
}

/// What the whole run shares.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) journal: Journal,
    stage: Mutex<Stage>,
    /// The leaderships that work was given and has not given back, dead replicas included.
    shown: Mutex<Vec<(String, LeadershipView)>>,
    electors: Mutex<Vec<(String, Elector)>>,
    /// The numbers of the elected, in order.
    elected: Mutex<Vec<u64>>,
    /// The numbers whose writes the resource accepted, in order.
    accepted: Mutex<Vec<u64>>,
    pub(super) rejected: AtomicU64,
    pub(super) faults: AtomicU64,
    broken: Mutex<Vec<String>>,
}

impl Shared {
    fn break_rule(&self, what: String) {
        self.journal.line("!", &what);
        self.broken.lock().unwrap().push(what);
    }

    fn stage(&self) -> Stage {
        *self.stage.lock().unwrap()
    }

    /// I1, at this moment: at most one of them may act. Asked of the work's own view and of the status.
    pub(super) fn look(&self) {
        let mut valid: Vec<String> = Vec::new();
        for (who, view) in &*self.shown.lock().unwrap() {
            if view.is_valid() {
                valid.push(who.clone());
            }
        }
        for (who, elector) in &*self.electors.lock().unwrap() {
            let leads = elector.status().borrow().is_leader();
            if leads && !valid.contains(who) {
                valid.push(who.clone());
            }
        }
        if valid.len() > 1 {
            self.break_rule(format!("{valid:?} are valid at once"));
        }
    }

    /// I2.
    fn elected(&self, number: u64) {
        let mut elected = self.elected.lock().unwrap();
        let highest = elected.last().copied().unwrap_or(0);
        elected.push(number);
        if number <= highest {
            self.break_rule(format!("{number} was elected after {highest}"));
        }
    }

    /// I4.
    fn accepted(&self, number: u64) {
        let mut accepted = self.accepted.lock().unwrap();
        let highest = accepted.last().copied().unwrap_or(0);
        accepted.push(number);
        if number < highest {
            self.break_rule(format!("a write of {number} was accepted after one of {highest}"));
        }
    }

    pub(super) fn terms(&self) -> usize {
        self.elected.lock().unwrap().len()
    }

    pub(super) fn writes(&self) -> usize {
        self.accepted.lock().unwrap().len()
    }
}

/// The faults of one replica's network.
struct Weather {
    dice: fastrand::Rng,
    cut_off: Option<(Instant, Fault)>,
}

impl Weather {
    fn next(&mut self, stage: Stage) -> Fault {
        if stage == Stage::Calm {
            return Fault::Deliver;
        }
        if let Some((until, fault)) = &self.cut_off {
            if Instant::now() < *until {
                return fault.clone();
            }
            self.cut_off = None;
        }
        let late = stage == Stage::Everything;
        match self.dice.u32(0..180) {
            0..=3 => Fault::LoseRequest,
            4..=8 => Fault::LoseReply,
            9..=16 => self.delay(1, 1_500),
            17..=18 if late => self.delay(4_000, 30_000),
            19..=22 if late => Fault::Duplicate { after: millis(self.dice.u64(1..30_000)) },
            23..=28 => Fault::StaleRead,
            29..=31 => Fault::Throttle,
            32..=34 => Fault::ServerError,
            35..=37 => Fault::ConnectError,
            38..=39 if stage > Stage::Transient => Fault::AccessDenied,
            40..=41 => refusal("TransactionConflictException", "Transaction is ongoing for the item"),
            // Either way, or both: nothing arrives, or nothing comes back.
            42..=43 => {
                let fault = if self.dice.bool() { Fault::LoseRequest } else { Fault::LoseReply };
                let until = Instant::now() + millis(self.dice.u64(1_000..20_000));
                self.cut_off = Some((until, fault.clone()));
                fault
            }
            _ => Fault::Deliver,
        }
    }

    fn delay(&mut self, from: u64, to: u64) -> Fault {
        Fault::Delay { request: millis(self.dice.u64(from..to)), reply: millis(self.dice.u64(from..to)) }
    }
}

/// One process.
#[derive(Clone)]
struct Replica {
    who: String,
    faults: Faults,
    locks: LockClient,
    elector: Elector,
}

pub(super) struct World {
    pub(super) shared: Arc<Shared>,
    engine: Embedded,
    dice: fastrand::Rng,
    /// By place: the label stays, the process changes.
    replicas: Vec<Replica>,
    processes: u64,
    seed: u64,
}

impl World {
    pub(super) async fn new(seed: u64, replicas: usize) -> Self {
        let engine = Embedded::in_memory().unwrap();
        let admin = LockClient::builder(&engine.client(), "locks").share_http_client().create_table().simulated(seed);
        admin.build().await.unwrap();
        let shared = Shared {
            journal: Journal::new(),
            stage: Mutex::new(Stage::Everything),
            shown: Mutex::default(),
            electors: Mutex::default(),
            elected: Mutex::default(),
            accepted: Mutex::default(),
            rejected: AtomicU64::default(),
            faults: AtomicU64::default(),
            broken: Mutex::default(),
        };
        let dice = fastrand::Rng::with_seed(seed);
        let mut world = Self { shared: Arc::new(shared), engine, dice, replicas: Vec::new(), processes: 0, seed };
        for place in 0..replicas {
            let replica = world.start(place).await;
            world.replicas.push(replica);
        }
        world
    }

    /// A new process under the label of its place.
    async fn start(&mut self, place: usize) -> Replica {
        self.processes += 1;
        let who = format!("node-{place}/{}", self.processes);
        let faults = Faults::none();
        let client = self.shared.journal.overhear(&who, &self.engine.client_with_faults(&faults));
        let builder = LockClient::builder(&client, "locks").share_http_client().owner(format!("node-{place}"));
        // Versions come from it: no two processes of a run share one.
        let locks = builder.simulated(self.seed * 1_000 + self.processes).build().await.unwrap();
        let elector = Elector::builder(&locks, "e").build().unwrap();
        let shared = Arc::clone(&self.shared);
        self.shared.journal.follow(&who, &elector, move |number| shared.elected(number));
        self.shared.electors.lock().unwrap().push((who.clone(), elector.clone()));
        let mut weather = Weather { dice: self.dice.fork(), cut_off: None };
        let (shared, caller) = (Arc::clone(&self.shared), who.clone());
        faults.set(move |call: &Call| {
            let fault = weather.next(shared.stage());
            shared.faults.fetch_add(u64::from(fault != Fault::Deliver), Ordering::Relaxed);
            shared.journal.call(&caller, call, &fault);
            shared.look();
            fault
        });
        let worker = Worker {
            who: who.clone(),
            shared: Arc::clone(&self.shared),
            engine: self.engine.clone(),
            dice: self.dice.fork(),
        };
        drop(elector.start(worker).unwrap());
        Replica { who, faults, locks, elector }
    }

    /// Runs for so long in this weather, and looks all along.
    pub(super) async fn run(&mut self, stage: Stage, time: Duration) {
        *self.shared.stage.lock().unwrap() = stage;
        let until = Instant::now() + time;
        while Instant::now() < until {
            sleep(50).await;
            self.shared.look();
            if stage == Stage::Calm {
                continue;
            }
            let place = self.dice.usize(0..self.replicas.len());
            match self.dice.u32(0..2_400) {
                0..=3 => self.crash(place).await,
                4..=9 => self.suspend(),
                10..=21 => self.resign(),
                _ => {}
            }
        }
    }

    /// Its process is gone from one moment to the next, as far as the store can tell, and another starts under its label at
    /// once. What is left of it stops by its own clock, and is asked all along.
    async fn crash(&mut self, place: usize) {
        let next = self.start(place).await;
        let dead = std::mem::replace(&mut self.replicas[place], next);
        self.shared.journal.line(&dead.who, "crashes");
        dead.faults.set(|_| Fault::LoseRequest);
        tokio::spawn(async move {
            sleep(60_000).await;
            dead.elector.shutdown().await;
        });
    }

    fn leader(&self) -> Option<Replica> {
        self.replicas.iter().find(|replica| replica.elector.status().borrow().is_leader()).cloned()
    }

    /// The machine of the leader. Only its clock runs on here, so a follower would see a lease pass that has not.
    fn suspend(&mut self) {
        if let Some(leader) = self.leader() {
            let time = millis(self.dice.u64(500..20_000));
            self.shared.journal.line(&leader.who, &format!("is suspended for {time:?}"));
            leader.locks.suspend(time);
        }
    }

    fn resign(&self) {
        if let Some(leader) = self.leader() {
            self.shared.journal.line(&leader.who, "hands over");
            tokio::spawn(async move { leader.elector.hand_over().await });
        }
    }

    /// I6: how long it takes until somebody leads, at most `bound`; and whoever leads then goes on leading.
    pub(super) async fn settle(&mut self, bound: Duration) {
        *self.shared.stage.lock().unwrap() = Stage::Calm;
        let began = Instant::now();
        while self.leader().is_none() && began.elapsed() <= bound {
            sleep(10).await;
        }
        match self.leader() {
            None => self.shared.break_rule(format!("nobody leads {bound:?} after the faults have stopped")),
            Some(leader) => {
                // One that was told to go before that may still be on its way out.
                self.run(Stage::Calm, millis(30_000)).await;
                let terms = self.shared.terms();
                let stable = self.leader();
                self.run(Stage::Calm, millis(30_000)).await;
                if stable.is_none() || self.leader().map(|now| now.who) != stable.map(|then| then.who) {
                    self.shared.break_rule(format!("after {} nobody stays in the lead", leader.who));
                }
                if self.shared.terms() != terms {
                    self.shared.break_rule("a healthy leader was deposed".to_owned());
                }
            }
        }
    }

    pub(super) fn broken(&self) -> Vec<String> {
        self.shared.broken.lock().unwrap().clone()
    }
}

/// Writes to a resource that checks the fence, at once or much later, whatever became of the leadership by then.
struct Worker {
    who: String,
    shared: Arc<Shared>,
    engine: Embedded,
    dice: fastrand::Rng,
}

/// Takes the view out when the work ends, is dropped or panics: as long as it exists nothing is released.
struct Shown<'a>(&'a Shared, &'a str);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        self.0.shown.lock().unwrap().retain(|(who, _)| who != self.1);
    }
}

impl Worker {
    fn write(&mut self, leadership: &Leadership) {
        let (fence, shared, who) = (leadership.fence(), Arc::clone(&self.shared), self.who.clone());
        let pause = if self.dice.u32(0..5) == 0 { self.dice.u64(2_000..40_000) } else { self.dice.u64(1..400) };
        let ledger = self.engine.client().update_item().table_name("locks").key("key", text("ledger"));
        let write = ledger.update_expression("SET writer = :w").expression_attribute_values(":w", text(&who));
        tokio::spawn(async move {
            sleep(pause).await;
            let done = fence.condition().apply_to(write).unwrap().send().await;
            shared.journal.line(&who, &format!("# {} writes after {pause} ms: {}", fence.number(), done.is_ok()));
            match done {
                Ok(_) => shared.accepted(fence.number()),
                Err(error)
                    if error.as_service_error().is_some_and(|error| error.is_conditional_check_failed_exception()) =>
                {
                    shared.rejected.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => shared.break_rule(format!("a fenced write failed for another reason: {error:?}")),
            }
        });
    }
}

impl Service for Worker {
    async fn on_elected(&mut self, leadership: Leadership) -> WorkResult {
        self.shared.shown.lock().unwrap().push((self.who.clone(), leadership.view()));
        let (shared, who) = (Arc::clone(&self.shared), self.who.clone());
        let _shown = Shown(&shared, &who);
        loop {
            let pause = self.dice.u64(200..1_500);
            tokio::select! { biased;
                () = leadership.cancelled() => break,
                () = sleep(pause) => self.write(&leadership),
            }
        }
        // Some winds down in time, some does not.
        sleep(self.dice.u64(0..4_000)).await;
        self.write(&leadership);
        Ok(())
    }
}
