//! Acquiring: look, wait, claim. Runs on the keeper; whoever asked only awaits the answer.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::context::{Context, Note};
use super::hold::hold;
use super::request::{Answer, Patience, Request};
use super::tenure::Tenure;
use crate::error::{Error, ErrorKind};
use crate::protocol::{Absence, Candidate, Consistency, Holder, Moment, Next, Noted, Phase, SentAt, Version, Writer};
use crate::store::{Fill, Found, LockKey};

struct Campaign {
    context: Arc<Context>,
    request: Request,
    candidate: Candidate,
    looked: bool,
    last_error: Option<Error>,
}

/// Acquires, answers, and then holds until the release is over: one task for one acquisition.
///
/// If the asking side goes away, at whatever moment, a claim under way is taken back.
pub(super) async fn campaign(context: Arc<Context>, request: Request, mut answer: oneshot::Sender<Answer>) {
    let settings = &context.settings;
    let absence = if settings.delete_on_release { Absence::Free } else { Absence::WaitsOutLease };
    let candidate =
        Candidate::new(settings.timing.poll(), settings.timing.lease(), absence, settings.delete_on_release);
    let mut campaign = Campaign { context, request, candidate, looked: false, last_error: None };
    let won = tokio::select! { biased;
        () = answer.closed() => return,
        won = campaign.until_claim() => won,
    };
    let mut next = won;
    loop {
        let (base, token) = match next {
            Ok(Some(claim)) => claim,
            Ok(None) => return drop(answer.send(Ok(None))),
            Err(error) => return drop(answer.send(Err(error))),
        };
        let mut tenure = campaign.begin_claim(base, token);
        match campaign.claim(&mut tenure, &mut answer).await {
            Claim::Won => return hold(tenure, &campaign.request, answer).await,
            Claim::TryAgain => {}
            Claim::GiveUp(reason) => {
                // The claim may have been applied: take it back, or the key stays blocked for a lease.
                finish(&mut tenure).await;
                match reason {
                    None => return,
                    Some(error) => campaign.last_error = Some(error),
                }
            }
        }
        next = tokio::select! { biased;
            () = answer.closed() => return,
            next = campaign.until_claim() => next,
        };
    }
}

enum Claim {
    Won,
    TryAgain,
    /// With the error that ended it, or `None` when nobody wants it any more.
    GiveUp(Option<Error>),
}

/// After so many failed writes a claim is taken back, and the record looked at again.
const CLAIM_TRIES: u32 = 3;

impl Campaign {
    fn now(&self) -> Moment {
        self.context.clock.now()
    }

    /// Follows the record until it can be claimed: on what, with which token.
    async fn until_claim(&mut self) -> Result<Option<(Option<Version>, u64)>, Error> {
        loop {
            self.check_patience()?;
            let now = self.now();
            let next = self.context.with_known(&self.request.key, |known| self.candidate.next(&known.observation, now));
            match next {
                Next::Claim { base, token } => return Ok(Some((base, token))),
                Next::Read(consistency) if !(self.looked && self.request.patience == Patience::Try) => {
                    self.read(consistency).await;
                }
                Next::Read(_) | Next::Wait(_) if self.request.patience == Patience::Try => {
                    if let Some(error) = self.last_error.take() {
                        return Err(error);
                    }
                    if self.looked {
                        return Ok(None);
                    }
                    self.read(Consistency::Eventual).await;
                }
                Next::Read(_) => {}
                Next::Wait(until) => self.wait(until).await,
            }
        }
    }

    fn check_patience(&mut self) -> Result<(), Error> {
        if self.context.closing.is_cancelled() {
            return Err(Error::new(ErrorKind::Closed, "the lock client was shut down: build a new one"));
        }
        if self.request.patience == Patience::Election {
            return Ok(());
        }
        if let Some(error) = self.last_error.take_if(|error| !error.kind().is_transient()) {
            return Err(error);
        }
        match self.request.patience {
            Patience::Until(end) if self.now() >= end => Err(self.last_error.take().unwrap_or_else(|| {
                Error::new(ErrorKind::WaitOver, format!("lock {} is still held by somebody else", self.request.key))
            })),
            Patience::Until(_) | Patience::Try | Patience::Unlimited | Patience::Election => Ok(()),
        }
    }

    async fn wait(&self, until: Moment) {
        let until = match self.request.patience {
            Patience::Until(end) => until.min(end),
            Patience::Try | Patience::Unlimited | Patience::Election => until,
        };
        let mut jumped = self.context.jumped.subscribe();
        tokio::select! { biased;
            () = self.context.closing.cancelled() => {}
            _ = jumped.changed() => {}
            () = self.context.clock.sleep_until(until) => {}
        }
    }

    async fn read(&mut self, consistency: Consistency) {
        let sent = SentAt(self.now());
        let result = self.context.store.read(&self.request.key, consistency).await;
        let now = self.now();
        self.looked = true;
        let key = &self.request.key;
        match result {
            Ok(found) => {
                self.last_error = obstacle(&found, key);
                self.context.observe(key, &found, sent, now, consistency, &*self.request.watcher);
                self.request.watcher.note(Note::Obstacle(self.last_error.as_ref()));
                self.context.with_known(key, |known| self.candidate.answered(&known.observation, now));
            }
            Err(error) => {
                self.request.watcher.note(Note::Failed { error: &error, renewal: false });
                self.candidate.failed(error.kind().is_transient(), now, self.context.entropy.spread());
                self.last_error = Some(error);
            }
        }
    }

    fn begin_claim(&self, base: Option<Version>, token: u64) -> Tenure {
        let settings = &self.context.settings;
        let fill = Fill {
            owner: settings.owner.clone(),
            text: self.context.duration_text(&self.request.key),
            heartbeat: settings.timing.heartbeat(),
            data: self.request.data.clone(),
            acquired_at: self.context.clock.wall_text(),
            fencing: !settings.delete_on_release,
            delete_on_release: settings.delete_on_release,
        };
        let holder = Holder::claim(base, token, settings.terms(), self.now());
        let watcher = Arc::clone(&self.request.watcher);
        Tenure::new(Arc::clone(&self.context), self.request.key.clone(), holder, fill, watcher)
    }

    async fn claim(&mut self, tenure: &mut Tenure, answer: &mut oneshot::Sender<Answer>) -> Claim {
        let end = match self.request.patience {
            Patience::Until(end) => Some(end),
            Patience::Try | Patience::Unlimited | Patience::Election => None,
        };
        let closing = self.context.closing.clone();
        while tenure.phase() == Phase::Claiming {
            let clock = self.context.clock;
            let out_of_time = async move {
                match end {
                    Some(end) => clock.sleep_until(end).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! { biased;
                () = answer.closed() => return Claim::GiveUp(None),
                () = closing.cancelled() => return Claim::GiveUp(Some(self.closed())),
                () = out_of_time => return Claim::GiveUp(tenure.last_error.take().or_else(|| Some(self.out_of_time()))),
                () = tenure.turn() => {}
            }
            if let Some(error) = tenure.last_error.take() {
                self.looked = true;
                let transient = error.kind().is_transient();
                self.candidate.failed(transient, self.now(), self.context.entropy.spread());
                let tries = if self.request.patience == Patience::Try { 1 } else { CLAIM_TRIES };
                if !transient || tenure.holder().misses() >= tries {
                    self.request.watcher.note(Note::Claimed { outcome: "failed" });
                    return Claim::GiveUp(Some(error));
                }
            }
        }
        if tenure.phase() == Phase::Holding {
            self.request.watcher.note(Note::Claimed { outcome: "acquired" });
            return Claim::Won;
        }
        self.request.watcher.note(Note::Claimed { outcome: "refused" });
        self.looked = true;
        let noted = if tenure.phase() == Phase::Refused { tenure.last_noted } else { Noted::Same };
        let now = self.now();
        self.candidate.refused(noted, now);
        if tenure.phase() == Phase::Refused { Claim::TryAgain } else { Claim::GiveUp(Some(self.out_of_time())) }
    }

    fn closed(&self) -> Error {
        Error::new(ErrorKind::Closed, format!("the lock client was shut down while waiting for {}", self.request.key))
    }

    fn out_of_time(&self) -> Error {
        Error::new(ErrorKind::Unavailable, format!("DynamoDB answered too slowly to acquire {}", self.request.key))
    }
}

/// R14: what is never taken over, said to whoever waits for it.
pub(super) fn obstacle(found: &Found, key: &LockKey) -> Option<Error> {
    match found {
        Found::Malformed(what) => Some(Error::new(
            ErrorKind::MalformedRecord,
            format!(
                "the record under {key} is not a lock record ({what}): it is left alone; repair or delete it, or choose another key"
            ),
        )),
        Found::Record(record) if record.writer() == Writer::Newer => Some(Error::new(
            ErrorKind::NewerFormat,
            format!("the record under {key} was written by a newer version of this crate: upgrade this process"),
        )),
        Found::Record(_) | Found::Absent => None,
    }
}

/// Takes back a claim that may have been applied.
async fn finish(tenure: &mut Tenure) {
    let now = tenure.clock().now();
    tenure.holder().work_ended(now);
    while !matches!(tenure.phase(), Phase::Refused | Phase::Ended(_)) {
        tenure.turn().await;
    }
}
