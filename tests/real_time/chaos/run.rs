//! A run: starts replicas, does them harm by plan, and brings them back.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Runtime;

use super::PART;
use super::engine::{Effects, serve};
use super::faults::{Fired, Kind, Plan};
use super::journal::{Belief, Life, last_belief, nanos, now};
use super::proxy::{Mode, Proxy};
use super::replica::{ENDPOINT, JOURNALS, LIFE, REPLICA};

const STEP: Duration = Duration::from_millis(2);
/// A belief that was confirmed this long ago is taken for a current one when a target is looked for.
const FRESH: u64 = 250_000_000;
/// A replica that was told to stop and has not by then is killed, and the run fails.
const STOPS_WITHIN: u64 = 30_000_000_000;
/// How long the election may take to have a leader again, once all is well.
const RECOVERS_WITHIN: Duration = Duration::from_secs(30);

struct Replica {
    proxy: Proxy,
    life: Life,
    /// `None` while it is down.
    child: Option<Child>,
    stopped: bool,
    /// Told to stop, so its end is no surprise.
    leaving: Option<u64>,
    /// The fault that it suffers from.
    suffers: Option<usize>,
}

/// How long a fault of the leader waits for one.
const FINDS_A_LEADER: Duration = Duration::from_secs(15);
/// How long a process runs beside its successor.
const STAYS_BESIDE: u64 = 3_000_000_000;

/// What is due later.
struct Due {
    at: u64,
    replica: usize,
    fault: usize,
}

pub(crate) struct Run {
    folder: PathBuf,
    /// Runs the proxies and the table.
    _runtime: Runtime,
    replicas: Vec<Replica>,
    pub(crate) effects: Effects,
    pub(crate) faults: Vec<Fired>,
    pub(crate) failures: Vec<String>,
    plans: Vec<Plan>,
    due: Vec<Due>,
    burners: Vec<Child>,
    /// Processes whose successors have been started already, by their fault: to be continued, then killed.
    ghosts: Vec<(usize, Child)>,
}

/// This very program in a part of [`super::play_a_part`].
fn program(part: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "chaos::play_a_part", "--include-ignored", "--nocapture", "--test-threads=1"]);
    command.env(PART, part).stdin(Stdio::piped()).stdout(Stdio::null());
    command
}

impl Run {
    /// To be called, and driven, by one thread: children die with the thread that started them.
    pub(crate) fn start(folder: &Path, count: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let effects = Effects::default();
        let proxies = runtime.block_on(async {
            let upstream = serve(&effects).await;
            futures::future::join_all((0..count).map(|_| Proxy::start(upstream))).await
        });
        let replica = |(index, proxy)| {
            let life = Life { replica: index, number: 0 };
            Replica { proxy, life, child: None, stopped: false, leaving: None, suffers: None }
        };
        let replicas = proxies.into_iter().enumerate().map(replica).collect();
        let (faults, failures, plans) = (Vec::new(), Vec::new(), Vec::new());
        let folder = folder.to_owned();
        let (due, burners, ghosts) = (Vec::new(), Vec::new(), Vec::new());
        let mut run =
            Self { folder, _runtime: runtime, replicas, effects, faults, failures, plans, due, burners, ghosts };
        for index in 0..count {
            run.launch(index);
        }
        run
    }

    fn launch(&mut self, index: usize) {
        let replica = &mut self.replicas[index];
        replica.life.number += 1;
        (replica.leaving, replica.stopped) = (None, false);
        let errors = std::fs::File::create(replica.life.file(&self.folder, "errors")).unwrap();
        let child = program("replica")
            .env(ENDPOINT, format!("http://{}", replica.proxy.address))
            .env(REPLICA, index.to_string())
            .env(LIFE, replica.life.number.to_string())
            .env(JOURNALS, &self.folder)
            .stderr(errors)
            .spawn();
        replica.child = Some(child.unwrap());
    }

    fn signal(&mut self, index: usize, signal: Signal) {
        let Some(child) = &self.replicas[index].child else { return };
        // It may have ended by itself, which is seen elsewhere.
        let _ = kill_process(Pid::from_child(child), signal);
    }

    /// Who says at this moment that it leads.
    pub(crate) fn leader(&self) -> Option<Belief> {
        let beliefs = self.replicas.iter().filter(|replica| replica.child.is_some() && !replica.stopped);
        let beliefs = beliefs.filter_map(|replica| last_belief(&self.folder, replica.life));
        beliefs.filter(|belief| belief.until + FRESH > now()).max_by_key(|belief| belief.token)
    }

    /// Lets time pass, and does what is due, until `done` says so; whether it did in time.
    pub(crate) fn go_on(&mut self, time: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = now() + nanos(time);
        while now() < end {
            if done(self) {
                return true;
            }
            let ready = |due: &Due| due.at <= now();
            while let Some(position) = self.due.iter().position(ready) {
                let due = self.due.swap_remove(position);
                self.end(&due);
            }
            self.reap();
            std::thread::sleep(STEP);
        }
        false
    }

    /// Makes a fault happen, unless its target suffers from another one that it can't be combined with.
    pub(crate) fn fire(&mut self, plan: Plan) {
        if plan.kind == Kind::Starve {
            return self.starve(&plan);
        }
        if plan.leader {
            self.go_on(FINDS_A_LEADER, |run| run.leader().is_some());
        }
        let leader = self.leader();
        let index = leader.filter(|_| plan.leader).map_or(plan.replica, |belief| belief.life.replica);
        let replica = &self.replicas[index];
        if replica.child.is_none() || replica.leaving.is_some() || replica.stopped || replica.suffers.is_some() {
            return;
        }
        let life = replica.life;
        let led = leader.filter(|belief| belief.life == life).map(|belief| belief.token);
        let fault = self.faults.len();
        self.faults.push(Fired { kind: plan.kind, life: Some(life), led, at: now(), until: None });
        self.plans.push(plan);
        self.replicas[index].suffers = Some(fault);
        match plan.kind {
            Kind::Kill => {
                self.signal(index, Signal::KILL);
                let mut child = self.replicas[index].child.take().unwrap();
                child.wait().unwrap();
            }
            Kind::Terminate => {
                self.replicas[index].leaving = Some(now());
                self.signal(index, Signal::TERM);
                // It comes back some time after it has ended.
                return;
            }
            Kind::Stop | Kind::StopTwoLeases => {
                self.signal(index, Signal::STOP);
                self.replicas[index].stopped = true;
            }
            Kind::Double => {
                self.signal(index, Signal::STOP);
                self.ghosts.push((fault, self.replicas[index].child.take().unwrap()));
                self.launch(index);
            }
            _ => self.replicas[index].proxy.set(plan.mode),
        }
        self.due.push(Due { at: now() + nanos(plan.lasts), replica: index, fault });
    }

    fn starve(&mut self, plan: &Plan) {
        let count = plan.burners * std::thread::available_parallelism().map_or(1, usize::from);
        let at = now();
        for _ in 0..count {
            let mut burner = program("burn");
            burner.env("CHAOS_BURN", plan.lasts.as_millis().to_string()).stderr(Stdio::null());
            self.burners.push(burner.spawn().unwrap());
        }
        let until = Some(at + nanos(plan.lasts));
        self.faults.push(Fired { kind: plan.kind, life: None, led: None, at, until });
        self.plans.push(*plan);
    }

    fn end(&mut self, due: &Due) {
        if self.faults[due.fault].until.is_some() {
            return self.lay(due);
        }
        let kind = self.faults[due.fault].kind;
        // Before the end itself: what is measured from it is no shorter than it was.
        self.faults[due.fault].until = Some(now());
        match kind {
            Kind::Kill | Kind::Terminate => self.launch(due.replica),
            Kind::Stop | Kind::StopTwoLeases => {
                self.signal(due.replica, Signal::CONT);
                self.replicas[due.replica].stopped = false;
            }
            Kind::Double => {
                let ghost = self.ghosts.iter().find(|(fault, _)| *fault == due.fault).unwrap();
                kill_process(Pid::from_child(&ghost.1), Signal::CONT).unwrap();
                return self.due.push(Due { at: now() + STAYS_BESIDE, ..*due });
            }
            _ => self.replicas[due.replica].proxy.set(Mode::Passes),
        }
        self.replicas[due.replica].suffers = None;
    }

    /// Ends the process whose successor runs.
    fn lay(&mut self, due: &Due) {
        let position = self.ghosts.iter().position(|(fault, _)| *fault == due.fault).unwrap();
        let (_, mut ghost) = self.ghosts.swap_remove(position);
        if let Some(status) = ghost.try_wait().unwrap() {
            self.failures.push(format!("a process beside its successor ended by itself: {status}"));
        }
        // It may have ended just now.
        let _ = ghost.kill();
        ghost.wait().unwrap();
        self.replicas[due.replica].suffers = None;
    }

    /// Sees who has ended.
    fn reap(&mut self) {
        for index in 0..self.replicas.len() {
            let replica = &mut self.replicas[index];
            let Some(child) = &mut replica.child else { continue };
            let ended = child.try_wait().unwrap();
            match (ended, replica.leaving) {
                (None, Some(since)) if now() > since + STOPS_WITHIN => {
                    self.failures.push(format!("{} did not stop when it was told to", replica.life));
                    child.kill().unwrap();
                    replica.leaving = Some(now());
                }
                (None, _) => {}
                (Some(status), Some(_)) => {
                    // Before it listens for signals one ends it at once.
                    let listened = replica.life.file(&self.folder, "events").exists();
                    if listened && !status.success() {
                        self.failures.push(format!("{} was told to stop and ended with {status}", replica.life));
                    }
                    replica.child = None;
                    if let Some(fault) = replica.suffers {
                        self.due.push(Due { at: now() + nanos(self.plans[fault].lasts), replica: index, fault });
                    }
                }
                (Some(status), None) => {
                    self.failures.push(format!("{} ended by itself: {status}", replica.life));
                    replica.child = None;
                    self.launch(index);
                }
            }
        }
        self.burners.retain_mut(|child| child.try_wait().unwrap().is_none());
    }

    /// Ends all faults, sees that somebody leads again, and stops everybody politely.
    pub(crate) fn finish(&mut self) {
        let last = self.go_on(RECOVERS_WITHIN * 2, |run| run.due.is_empty() && run.leavers() == 0);
        if !last {
            self.failures.push("the faults did not end".to_owned());
        }
        if !self.go_on(RECOVERS_WITHIN, |run| run.leader().is_some()) {
            self.failures.push("nobody leads after all faults have ended".to_owned());
        }
        for index in 0..self.replicas.len() {
            self.replicas[index].leaving = Some(now());
            self.signal(index, Signal::TERM);
        }
        self.go_on(RECOVERS_WITHIN * 2, |run| run.leavers() == 0);
    }

    fn leavers(&self) -> usize {
        self.replicas.iter().filter(|replica| replica.child.is_some() && replica.leaving.is_some()).count()
    }

    /// Every life that there was.
    pub(crate) fn lives(&self) -> Vec<Life> {
        let lives = |replica: &Replica| {
            let index = replica.life.replica;
            (1..=replica.life.number).map(move |number| Life { replica: index, number })
        };
        self.replicas.iter().flat_map(lives).collect()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let children = self.replicas.iter_mut().filter_map(|replica| replica.child.as_mut());
        let ghosts = self.ghosts.iter_mut().map(|(_, ghost)| ghost);
        for child in children.chain(&mut self.burners).chain(ghosts) {
            // Also if it is stopped. It may be gone.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
