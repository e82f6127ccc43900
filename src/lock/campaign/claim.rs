//! A claim: written until it is answered, handed on when it came through, taken back when it failed.

use std::pin::pin;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Campaign, unwanted};
use crate::error::Error;
use crate::lock::context::Note;
use crate::lock::fencing::{self, Fencing};
use crate::lock::request::{Answer, Patience};
use crate::lock::tenure::Tenure;
use crate::protocol::{Holder, Noted, Phase, Version};
use crate::store::{DataChange, Fill};

/// How a claim ends.
pub(super) enum Claim {
    Won,
    TryAgain,
    /// With the error that ended it, or `None` when nobody wants it any more.
    GiveUp(Option<Error>),
}

/// After so many failed writes a claim is taken back, and the record looked at again.
const CLAIM_TRIES: u32 = 3;

impl Campaign<'_> {
    pub(super) fn begin_claim(&self, base: Option<Version>, token: u64) -> Tenure {
        let settings = &self.context.settings;
        let vouched = self.is_vouched_for(base.as_ref());
        let fill = Fill {
            owner: settings.owner.clone(),
            text: self.text_over(base.as_ref()),
            data: self.request.data.clone(),
            attributes: self.request.attributes.clone(),
            acquired_at: self.context.clock.wall_text(),
            token: fencing::token_change(settings.fencing, vouched),
            sealed: None,
            delete_on_release: settings.delete_on_release,
        };
        let holder = Holder::claim(base, token, settings.terms(settings.timing), self.now());
        let watcher = Arc::clone(&self.request.watcher);
        Tenure::new(Arc::clone(&self.context), self.request.key.clone(), holder, vouched, fill, watcher)
    }

    pub(super) async fn claim(&mut self, tenure: &mut Tenure, answer: &mut oneshot::Sender<Answer>) -> Claim {
        let (closing, given_up) = (self.context.closing.clone(), self.request.given_up.clone());
        while tenure.phase() == Phase::Claiming {
            let out_of_time = self.out_of_time();
            tokio::select! { biased;
                () = unwanted(&given_up, answer) => return Claim::GiveUp(None),
                () = closing.cancelled() => return Claim::GiveUp(Some(self.closed())),
                () = out_of_time => return Claim::GiveUp(tenure.last_error.take().or_else(|| Some(self.too_slow()))),
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
            return self.won(tenure, answer).await;
        }
        self.request.watcher.note(Note::Claimed { outcome: "refused" });
        self.looked = true;
        let noted = if tenure.phase() == Phase::Refused { tenure.last_noted } else { Noted::Same };
        let now = self.now();
        self.candidate.refused(noted, now);
        if tenure.phase() == Phase::Refused { Claim::TryAgain } else { Claim::GiveUp(Some(self.too_slow())) }
    }

    /// The claim came through. Where tokens come from a fence record, the lock is handed out only with a sealed one.
    async fn won(&mut self, tenure: &mut Tenure, answer: &mut oneshot::Sender<Answer>) -> Claim {
        if self.context.settings.fencing == Fencing::FenceRecord {
            let (context, closing) = (Arc::clone(&self.context), self.context.closing.clone());
            let given_up = self.request.given_up.clone();
            if self.request.patience == Patience::Try {
                // One look, one claim, one operation to seal it.
                self.end = Some(self.now().after(context.settings.timing.operation_timeout()));
            }
            let out_of_time = self.out_of_time();
            let sealed = tokio::select! { biased;
                () = unwanted(&given_up, answer) => return Claim::GiveUp(None),
                () = closing.cancelled() => return Claim::GiveUp(Some(self.closed())),
                () = out_of_time => return Claim::GiveUp(Some(self.too_slow())),
                // Boxed: most clients seal nothing, and each of their locks would keep room for it.
                sealed = Box::pin(fencing::seal(&context, &self.request.key, tenure)) => sealed,
            };
            if let Err(error) = sealed {
                self.failed(error.retold());
                self.request.watcher.note(Note::Claimed { outcome: "failed" });
                return Claim::GiveUp(Some(error));
            }
            let now = self.now();
            tenure.holder().expire(now);
            if tenure.phase() != Phase::Holding {
                return Claim::GiveUp(Some(self.too_slow()));
            }
        }
        self.request.watcher.note(Note::Claimed { outcome: "acquired" });
        Claim::Won
    }

    /// Takes back a claim that failed: it may have been applied, and would block the key for a lease. In an outage that takes
    /// as long, so whoever asked is answered as soon as there is no time for another claim; `None` when that was done.
    pub(super) async fn take_back(
        &mut self,
        tenure: &mut Tenure,
        answer: oneshot::Sender<Answer>,
    ) -> Option<oneshot::Sender<Answer>> {
        let election = self.request.patience == Patience::Election;
        let permanent = self.last_error.as_ref().is_some_and(|error| !error.kind().is_transient());
        let hopeless = self.request.patience == Patience::Try || permanent;
        let mut taking_back = pin!(finish(tenure));
        if election || !hopeless {
            let out_of_time = self.out_of_time();
            tokio::select! { biased;
                () = &mut taking_back => return Some(answer),
                () = out_of_time, if !election => {}
            }
        }
        let closing = self.context.closing.is_cancelled();
        let error = self.last_error.take().filter(|_| !closing);
        // Whoever asked may have gone meanwhile.
        let _ = answer.send(Err(error.unwrap_or_else(|| if closing { self.closed() } else { self.too_slow() })));
        taking_back.await;
        None
    }
}

/// Takes back a claim that may have been applied.
pub(super) async fn finish(tenure: &mut Tenure) {
    let now = tenure.clock().now();
    // What it was to store belongs to a lock that nobody got.
    tenure.set_data(DataChange::Keep);
    tenure.holder().work_ended(now);
    while !matches!(tenure.phase(), Phase::Refused | Phase::Ended(_)) {
        tenure.turn().await;
    }
}
