//! Trace events: one span a term, one event a transition, one warning a change of state. Never records, never what
//! they carry, never credentials. The fields are listed in `docs/observability.md`; a test compares them.

use std::collections::BTreeMap;
use std::sync::Arc;

use tracing::Span;

use super::{Event, LockEvent, Name};
use crate::ending::ReleaseOutcome;

/// The terms under way. Lives with the herald.
#[derive(Default)]
pub(super) struct Tracer {
    terms: BTreeMap<Name, Span>,
}

impl Tracer {
    /// Every event carries its election's name, since a span may be filtered out where its events are not.
    pub(super) fn record(&mut self, event: &Event) {
        match event {
            Event::Lock { key, what } => trace_lock(key, what),
            Event::TableUnchecked { why } => tracing::warn!(%why, "the lock table was not checked"),
            Event::TableExpires { attribute } => tracing::warn!(
                %attribute,
                "the lock table expires items: a lock record that carries this attribute would be deleted, and its fencing token with it"
            ),
            Event::Elected { name, owner, token } => {
                let span = tracing::info_span!(parent: None, "leadership", %name, %owner, token);
                span.in_scope(|| tracing::info!(%name, token, "elected"));
                self.terms.insert(Arc::clone(name), span);
            }
            Event::Ended { name, reason, tenure } => self.in_term(name, || {
                let tenure_seconds = tenure.as_secs_f64();
                if reason.is_forced() {
                    tracing::warn!(%name, %reason, tenure_seconds, "leadership lost");
                } else {
                    tracing::info!(%name, %reason, tenure_seconds, "leadership ends");
                }
            }),
            Event::Released { name, outcome, drain } => {
                self.in_term(name, || {
                    let (outcome, drain_seconds) = (*outcome, drain.as_secs_f64());
                    if matches!(outcome, ReleaseOutcome::Unknown | ReleaseOutcome::Expired) {
                        let outcome = outcome.as_str();
                        tracing::warn!(%name, outcome, drain_seconds, "lease not released: others wait for it to run out");
                    } else {
                        tracing::info!(%name, outcome = outcome.as_str(), drain_seconds, "lease released");
                    }
                });
                self.terms.remove(name);
            }
            Event::Failed { name, kind, why, first, renewal } => self.in_term(name, || {
                let kind = kind.as_str();
                if *first {
                    tracing::warn!(%name, kind, renewal, %why, "the store fails; retrying");
                } else {
                    tracing::debug!(%name, kind, renewal, %why, "the store still fails");
                }
            }),
            Event::Recovered { name } => {
                self.in_term(name, || tracing::info!(%name, "the store answers again"));
            }
            Event::LeaderChanged { name, leader } => {
                tracing::info!(%name, leader = leader.as_deref(), "leader changed")
            }
            Event::TokenRegressed { name, floor, found } => {
                tracing::error!(%name, floor, found, "the record's fencing token went back: restored from a backup?");
            }
            Event::CallbackFailed { name, callback, why } => {
                self.in_term(name, || tracing::warn!(%name, callback, %why, "a callback failed"));
            }
            Event::Stuck { name } => self.in_term(name, || {
                tracing::error!(%name, "work did not stop at its bound: ending the process, as the setting says");
            }),
            Event::Paused { name, paused: true } => tracing::info!(%name, "paused"),
            Event::Paused { name, paused: false } => tracing::info!(%name, "resumed"),
            Event::Stopped { name } => tracing::info!(%name, "stopped"),
            Event::Request { .. }
            | Event::Registered { .. }
            | Event::Gone { .. }
            | Event::Beacon { .. }
            | Event::Renewed { .. }
            | Event::ForcedRead { .. }
            | Event::Ambiguous { .. }
            | Event::Claimed { .. }
            | Event::Follower { .. }
            | Event::Leaderless { .. } => {}
        }
    }

    fn in_term(&self, name: &Name, tell: impl FnOnce()) {
        match self.terms.get(name) {
            Some(term) => term.in_scope(tell),
            None => tell(),
        }
    }
}

fn trace_lock(key: &Name, what: &LockEvent) {
    match what {
        LockEvent::Acquired { token } => tracing::debug!(%key, token, "lock acquired"),
        LockEvent::Ended { reason, held } => {
            let held_seconds = held.as_secs_f64();
            if reason.is_forced() {
                tracing::warn!(%key, %reason, held_seconds, "lock lost");
            } else {
                tracing::debug!(%key, %reason, held_seconds, "lock ends");
            }
        }
        LockEvent::Released { outcome: outcome @ (ReleaseOutcome::Unknown | ReleaseOutcome::Expired) } => {
            tracing::warn!(%key, outcome = outcome.as_str(), "lock not released: others wait for its lease");
        }
        LockEvent::Released { outcome } => tracing::debug!(%key, outcome = outcome.as_str(), "lock released"),
        LockEvent::Failed { kind, why, first: true, renewal } => {
            tracing::warn!(%key, kind = kind.as_str(), renewal, %why, "the store fails; retrying");
        }
        LockEvent::Failed { kind, why, first: false, renewal } => {
            tracing::debug!(%key, kind = kind.as_str(), renewal, %why, "the store still fails");
        }
        LockEvent::Recovered => tracing::info!(%key, "the store answers again"),
    }
}
