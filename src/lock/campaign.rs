//! Acquiring: look, wait, claim (`claim.rs`). Runs on the keeper; whoever asked only awaits the answer.

mod claim;

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use claim::{Claim, finish};

use super::context::{Context, Note};
use super::fencing::{self, Fencing};
use super::handle::Lock;
use super::hold::hold;
use super::request::{Answer, Candidacy, Creation, Patience, Reentry, Request};
use super::tenure::{Tenure, Unsettled};
use crate::error::{Error, ErrorKind};
use crate::protocol::{Candidate, Consistency, Moment, Next, SentAt, Version};
use crate::store::DurationText;

struct Campaign<'a> {
    context: Arc<Context>,
    request: &'a mut Request,
    candidate: Candidate,
    looked: bool,
    last_error: Option<Error>,
    /// When whoever asked has no more time.
    end: Option<Moment>,
}

/// How the wait for a lock ends.
enum Waited {
    /// It may be claimed: on what, with which token.
    Claim(Option<Version>, u64),
    /// This client holds it already, and may hold it once more.
    Reentered(Lock),
    /// It is held by somebody else, and there is no time to wait.
    NotNow,
}

/// Acquires, answers, and then holds until the release is over: one task for one acquisition.
///
/// If the asking side goes away, at whatever moment, a claim under way is taken back.
pub(super) async fn acquire(
    context: Arc<Context>,
    mut request: Box<Request>,
    answer: oneshot::Sender<Answer>,
) -> Option<Unsettled> {
    let _following = context.follow(&request.key);
    // The campaign is over before the hold begins, which takes its place in memory.
    let (tenure, answer) = campaign(context, &mut request, answer).await?;
    hold(tenure, &request, answer).await
}

/// Looks, waits and claims until the lock is won, with whoever is still to be told; `None` when that was done, or nobody
/// wants it any more.
async fn campaign(
    context: Arc<Context>,
    request: &mut Request,
    mut answer: oneshot::Sender<Answer>,
) -> Option<(Box<Tenure>, oneshot::Sender<Answer>)> {
    let settings = &context.settings;
    let create_first = settings.delete_on_release && request.creation == Creation::Allowed;
    let poll = request.refresh.unwrap_or(settings.timing.poll());
    let candidate =
        Candidate::new(poll, settings.timing.lease(), settings.absence(), create_first).restrained(request.restraint);
    // Locks are mostly let go of without a word, which those who poll see sooner; and who only watches wants to see everything.
    let follows = request.patience == Patience::Election && !matches!(request.candidacy, Candidacy::Never);
    let candidate = if follows { candidate.phase_locked() } else { candidate };
    let end = if let Patience::Until(end) = request.patience { Some(end) } else { None };
    let mut campaign = Campaign { context, request, candidate, looked: false, last_error: None, end };
    loop {
        let (out_of_time, given_up) = (campaign.out_of_time(), campaign.request.given_up.clone());
        let waited = tokio::select! { biased;
            () = unwanted(&given_up, &mut answer) => return None,
            waited = campaign.until_claim() => waited,
            // A request that hangs does not outlast the time to wait: it is dropped, and the loop ends above.
            () = out_of_time => continue,
        };
        let (base, token) = match waited {
            Ok(Waited::Claim(base, token)) => (base, token),
            other => {
                if other.as_ref().is_err_and(|error| error.kind() == ErrorKind::Closed) {
                    campaign.request.watcher.note(Note::Closed);
                }
                let told = other.map(|waited| if let Waited::Reentered(lock) = waited { Some(lock) } else { None });
                // Whoever asked may have gone meanwhile.
                let _ = answer.send(told);
                return None;
            }
        };
        let mut tenure = Box::new(campaign.begin_claim(base, token));
        match campaign.claim(&mut tenure, &mut answer).await {
            Claim::Won => return Some((tenure, answer)),
            Claim::TryAgain => {}
            Claim::GiveUp(Some(error)) => {
                campaign.last_error = Some(error);
                answer = campaign.take_back(&mut tenure, answer).await?;
            }
            Claim::GiveUp(None) => {
                finish(&mut tenure).await;
                return None;
            }
        }
    }
}

/// Until nobody wants it any more: whoever asked has gone, or has given it up without having gone yet.
async fn unwanted(given_up: &CancellationToken, answer: &mut oneshot::Sender<Answer>) {
    tokio::select! { biased;
        () = given_up.cancelled() => {}
        () = answer.closed() => {}
    }
}

impl Campaign<'_> {
    fn now(&self) -> Moment {
        self.context.clock.now()
    }

    /// Follows the record until it can be claimed.
    async fn until_claim(&mut self) -> Result<Waited, Error> {
        loop {
            self.check_patience()?;
            if let Some(lock) = self.reentered() {
                return Ok(Waited::Reentered(lock));
            }
            let now = self.now();
            self.candidate.set_paused(self.request.candidacy.is_paused());
            let (next, expired) = self.context.with_known(&self.request.key, |known| {
                let expired = known.observation.held_until().is_some_and(|until| now >= until);
                (self.candidate.next(&known.observation, now), expired)
            });
            if expired {
                self.request.watcher.note(Note::Expired);
            }
            match next {
                Next::Claim { base, token } => {
                    if let Some(token) = self.cleared(base.as_ref(), token).await? {
                        return Ok(Waited::Claim(base, token));
                    }
                }
                Next::Read(consistency) if !(self.looked && self.request.patience == Patience::Try) => {
                    self.read(consistency).await;
                }
                Next::Read(_) | Next::Wait(_) if self.request.patience == Patience::Try => {
                    if let Some(error) = self.last_error.take() {
                        return Err(error);
                    }
                    if self.looked {
                        return Ok(Waited::NotNow);
                    }
                    self.read(Consistency::Eventual).await;
                }
                Next::Read(_) => {}
                Next::Wait(until) => self.wait(until).await,
            }
        }
    }

    fn reentered(&self) -> Option<Lock> {
        let wanted = self.request.reentry == Reentry::Allowed;
        wanted.then(|| self.context.held.reenter(&self.request.key)).flatten().map(Lock::new)
    }

    /// What else must be known before a claim: the token to claim with, or `None` to look again.
    async fn cleared(&mut self, base: Option<&Version>, token: u64) -> Result<Option<u64>, Error> {
        if base.is_none() && self.request.creation == Creation::Refused {
            // A look that failed has shown nothing.
            if self.looked && self.last_error.is_none() {
                let message = format!("there is no record under {}, and none was to be created", self.request.key);
                return Err(Error::new(ErrorKind::NoRecord, message));
            }
            // What was known may be old.
            self.read(Consistency::Strong).await;
            return Ok(None);
        }
        let settings = &self.context.settings;
        if self.request.patience == Patience::Election
            && let Some(error) = self.fencing_obstacle(base)
        {
            // A leadership always has a token. Somebody may change the record: look on, at leisure.
            self.request.watcher.note(Note::Obstacle(Some(&error)));
            self.candidate.blocked(self.now());
            return Ok(None);
        }
        if settings.fencing != Fencing::FenceRecord {
            return Ok(Some(token));
        }
        match self.context.store.sealed_token(&self.request.key).await {
            Ok(sealed) => Ok(Some(token.max(sealed.saturating_add(1)))),
            Err(error) => {
                self.failed(error);
                Ok(None)
            }
        }
    }

    /// Whether what is to be taken over vouches for the next token.
    fn is_vouched_for(&self, base: Option<&Version>) -> bool {
        self.context.with_known(&self.request.key, |known| known.observation.vouches_for(base))
    }

    /// The text to write: that of the record found, or the setting where there is none any more.
    fn text_over(&self, base: Option<&Version>) -> DurationText {
        let settings = &self.context.settings;
        base.map_or(settings.duration_text, |_| self.context.duration_text(&self.request.key))
    }

    fn fencing_obstacle(&self, base: Option<&Version>) -> Option<Error> {
        let text = self.text_over(base);
        fencing::obstacle(self.context.settings.fencing, text, self.is_vouched_for(base))
    }

    fn failed(&mut self, error: Error) {
        self.looked = true;
        self.request.watcher.note(Note::Failed { error: &error, renewal: false });
        self.candidate.failed(error.kind().is_transient(), self.now(), self.context.entropy.spread());
        self.last_error = Some(error);
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
        match self.end {
            Some(end) if self.now() >= end => Err(self.last_error.take().unwrap_or_else(|| {
                if !self.looked {
                    return self.too_slow();
                }
                Error::new(ErrorKind::WaitOver, format!("lock {} is still held by somebody else", self.request.key))
            })),
            Some(_) | None => Ok(()),
        }
    }

    /// Until whoever asked has no more time, or the client is shut down.
    fn out_of_time(&self) -> impl Future<Output = ()> + Send + use<> {
        let (clock, end, closing) = (self.context.clock, self.end, self.context.closing.clone());
        async move {
            let over = async {
                match end {
                    Some(end) => clock.sleep_until(end).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! { biased;
                () = closing.cancelled() => {}
                () = over => {}
            }
        }
    }

    async fn wait(&mut self, until: Moment) {
        let mut jumped = self.context.jumped.subscribe();
        tokio::select! { biased;
            _ = jumped.changed() => {}
            () = self.request.candidacy.changed() => {}
            () = self.context.clock.sleep_until(until) => {}
        }
    }

    async fn read(&mut self, consistency: Consistency) {
        // Whoever must not create it must not take an answer from the past for its absence either.
        let consistency = if self.request.creation == Creation::Refused { Consistency::Strong } else { consistency };
        let sent = SentAt(self.now());
        let result = self.context.store.read(&self.request.key, consistency, None).await;
        let now = self.now();
        self.looked = true;
        let key = &self.request.key;
        match result {
            Ok(found) => {
                self.last_error = found.obstacle(key);
                self.context.observe(key, &found, sent, now, consistency, &*self.request.watcher);
                self.request.watcher.note(Note::Obstacle(self.last_error.as_ref()));
                self.context.with_known(key, |known| self.candidate.answered(&known.observation, sent, now));
            }
            Err(error) => self.failed(error),
        }
    }

    fn closed(&self) -> Error {
        Error::new(ErrorKind::Closed, format!("the lock client was shut down while waiting for {}", self.request.key))
    }

    fn too_slow(&self) -> Error {
        Error::new(ErrorKind::Unavailable, format!("DynamoDB answered too slowly to acquire {}", self.request.key))
    }
}
