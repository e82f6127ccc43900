//! A user's unit tests: a service of theirs, under a scripted election.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use dynamo_elector::{
    EndReason, ErrorKind, Leadership, LeadershipView, ScriptedElection, Service, TermEnded, WorkResult,
};
use tokio::time::Instant;

use crate::support::{kind, sleep, within};

/// What a user might have: it works off jobs while it leads, carefully while it is at risk, and leaves nothing half done.
#[derive(Clone, Default)]
struct Jobs {
    done: Arc<Mutex<Vec<u64>>>,
    skipped: Arc<Mutex<u32>>,
    ends: Arc<Mutex<Vec<EndReason>>>,
}

impl Jobs {
    fn done(&self) -> usize {
        self.done.lock().unwrap().len()
    }

    fn work_off_one(&self, leadership: &LeadershipView) {
        // A job takes up to three seconds.
        if leadership.ensure(Duration::from_secs(3)).is_ok() {
            self.done.lock().unwrap().push(leadership.fencing_token());
        } else {
            *self.skipped.lock().unwrap() += 1;
        }
    }
}

impl Service for Jobs {
    async fn on_elected(&mut self, leadership: Leadership) -> WorkResult {
        loop {
            leadership.guard(sleep(100)).await?;
            self.work_off_one(&leadership.view());
        }
    }

    async fn on_demoted(&mut self, term: TermEnded) {
        self.ends.lock().unwrap().push(term.reason);
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_is_elected_put_at_risk_deposed_and_hung() {
    let election = ScriptedElection::new("jobs").await.unwrap();
    let jobs = Jobs::default();
    let elector = election.elector().build().unwrap();
    let running = elector.start(jobs.clone()).unwrap();
    sleep(30_000).await;
    assert_eq!(jobs.done(), 0, "the rival leads");
    assert_eq!(elector.until_leader().await.unwrap().owner, "rival");

    election.elect().await.unwrap();
    sleep(5_000).await;
    let done = jobs.done();
    assert!((48..=50).contains(&done), "{done}");

    // At risk it goes on while a job still fits in, and it recovers.
    election.put_at_risk().await.unwrap();
    assert!(elector.leadership().unwrap().is_valid());
    let done = jobs.done();
    sleep(300).await;
    assert!(jobs.done() >= done + 2);
    election.recover().await.unwrap();
    sleep(5_000).await;
    let done = jobs.done();
    sleep(1_000).await;
    assert!(jobs.done() >= done + 9, "as before");
    *jobs.skipped.lock().unwrap() = 0;

    // Deposed: nothing more is done, at once.
    election.depose().await.unwrap();
    let done = jobs.done();
    sleep(60_000).await;
    assert_eq!(jobs.done(), done);
    assert_eq!(elector.until_leader().await.unwrap().owner, "rival");
    assert_eq!(*jobs.ends.lock().unwrap(), [EndReason::TakenOver]);

    // Cut off: stopped by its own clock, and before that by its own prudence.
    election.elect().await.unwrap();
    election.hang();
    let hung = Instant::now();
    within(20_000, async {
        while elector.status().borrow().is_leader() {
            sleep(10).await;
        }
    })
    .await;
    assert!(hung.elapsed() <= Duration::from_secs(8) && hung.elapsed() >= Duration::from_millis(5_500));
    assert!(*jobs.skipped.lock().unwrap() >= 25, "no job was begun in the last three seconds");
    election.recover().await.unwrap();
    within(60_000, elector.until_leading()).await.unwrap();
    let tokens = jobs.done.lock().unwrap().clone();
    assert!(tokens.is_sorted() && tokens.last() > tokens.first());
    running.shutdown().await.unwrap();
    assert_eq!(*jobs.ends.lock().unwrap(), [EndReason::TakenOver, EndReason::Deadline, EndReason::ShutDown]);
}

#[tokio::test(start_paused = true)]
async fn a_script_that_can_not_go_on_says_why() {
    let election = ScriptedElection::new("jobs").await.unwrap();
    assert_eq!(kind(election.put_at_risk().await), ErrorKind::NotHeld);
    assert_eq!(kind(election.depose().await), ErrorKind::NotHeld);
    assert_eq!(kind(election.elect().await), ErrorKind::WaitOver, "nobody campaigns");
    assert_eq!(kind(ScriptedElection::new("").await), ErrorKind::InvalidInput);
    let leadership = election.elector().build().unwrap().campaign().await.unwrap();
    assert_eq!(leadership.fencing_token(), 2, "the rival's term was the first");
    election.elect().await.unwrap();
    assert!(leadership.is_valid());
}
