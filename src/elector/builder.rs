//! Settings of an elector.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::board::Board;
use super::group::Membership;
use super::service::{Callbacks, LeaderCallback};
use super::{Elector, Inner, Leadership, Listener, Running, Seat, Settings, TermEnded, WorkResult};
use crate::error::{Error, ErrorKind};
use crate::lock::{BEAT, Fencing, LockClient, Stuck};
use crate::status::LeaderInfo;
use crate::store::{DurationText, Key};

/// Work that takes longer than this to wind down is dropped: half of Docker's and a sixth of
/// Kubernetes' grace period, so that the notice before it and the release still fit in.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_ADVERTISED: usize = 4_096;
/// A longer wait for preferred candidates, while nobody leads, is taken for a mistake.
const MAX_CAMPAIGN_DELAY: Duration = Duration::from_secs(3_600);
/// A shorter silence is no more than a busy machine.
const MIN_SILENCE: Duration = BEAT.saturating_mul(4);

/// Builds an [`Elector`]; see [`Elector::builder`].
///
/// | setting | default | why |
/// | --- | --- | --- |
/// | advertise | nothing | |
/// | drain timeout | 5 s | half of Docker's grace period of 10 s |
/// | hand-over notice | two heartbeats, 5 s at most | a follower has read of it by then |
/// | when work does not stop | it is dropped | the process may have other work |
/// | after work succeeds | campaigns again, when each of the others has looked | a service is never done; others get a turn |
/// | after work fails | the same, the pause doubling each time, up to 64 polls | another replica may fare better |
/// | cancel on first miss | off | one lost packet should not cost a leadership |
/// | campaign delay | none | all replicas are alike |
/// | max tenure | none | every change of leaders costs something |
/// | step down when silent | off, only measured | how long work may block is the user's to know |
#[must_use = "a builder does nothing until it is built or started"]
pub struct ElectorBuilder {
    locks: LockClient,
    name: Key,
    settings: Settings,
    membership: Option<Membership>,
    callbacks: Callbacks,
    leader_callback: Option<LeaderCallback>,
}

impl ElectorBuilder {
    pub(super) fn new(locks: LockClient, name: Key, membership: Option<Membership>) -> Self {
        let settings = Settings {
            drain_timeout: DRAIN_TIMEOUT,
            notice: None,
            first_miss_ends: false,
            advertised: None,
            campaign_delay: Duration::ZERO,
            max_tenure: None,
            silent_after: None,
            stuck: Stuck::LetExpire,
            stop_after_success: false,
            stop_after_failure: false,
        };
        Self { locks, name, settings, membership, callbacks: Callbacks::default(), leader_callback: None }
    }

    /// What followers read from the record while this process leads: an address, usually.
    pub fn advertise(mut self, data: impl Into<Vec<u8>>) -> Self {
        self.settings.advertised = Some(data.into());
        self
    }

    /// How long work may wind down after a voluntary end, while the lease is still renewed. What has
    /// not ended by then is dropped.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.settings.drain_timeout = timeout;
        self
    }

    /// How long a planned end (shutdown, [`Elector::hand_over`], [`Elector::pause`], the longest tenure) waits, at most, until followers
    /// have read that it comes. Meanwhile work goes on as if nothing were; then the token fires, and a follower that looks often by
    /// then takes the released record within two round trips or so, instead of at its next look, which may be a heartbeat later.
    ///
    /// It waits no longer than it takes followers to look once: until a moment after the next heartbeat, or for a poll. It does not
    /// wait where nothing works any more, or heartbeats don't come through. Zero: planned ends are not announced.
    pub fn hand_over_notice(mut self, most: Duration) -> Self {
        self.settings.notice = Some(most);
        self
    }

    /// Ends the process, by an abort, when anything still holds a [`Leadership`], a view of it or a guard at its bound: for work that
    /// blocks threads, which nothing else can stop. The keeper does it, so a blocked runtime can't prevent it.
    ///
    /// The bound is the [drain timeout](Self::drain_timeout) and [`Timing::guard`](crate::Timing::guard) after a voluntary end, and
    /// [`Timing::hard_limit`](crate::Timing::hard_limit) after a forced one, before anybody else can lead. An error event tells why, if the
    /// subscriber takes it within 100 ms.
    ///
    /// Work that awaits the elector's own `shutdown` or `hand_over` waits for itself, and ends the process too: spawn those.
    ///
    /// Default: what can be dropped is dropped; what can't goes on, no release is written, and the lease runs out.
    pub fn end_process_when_stuck(mut self) -> Self {
        self.settings.stuck = Stuck::EndProcess;
        self
    }

    /// Stops for good after work under [`Elector::run`] has returned `Ok`: for a job that is done once.
    pub fn stop_after_success(mut self) -> Self {
        self.settings.stop_after_success = true;
        self
    }

    /// Stops for good after work has failed or panicked: for services whose supervisor restarts them.
    pub fn stop_after_failure(mut self) -> Self {
        self.settings.stop_after_failure = true;
        self
    }

    /// Ends leadership at the first heartbeat that does not come through, instead of retrying until
    /// the deadline: for work that would rather stop early than late.
    pub fn cancel_on_first_miss(mut self) -> Self {
        self.settings.first_miss_ends = true;
        self
    }

    /// Claims only what it has seen free for so long, so that candidates with a smaller delay win when they are healthy: give
    /// the replica that should lead none, and the others one or two poll periods ([`Timing::poll`](crate::Timing::poll)) each.
    /// A leader is never deposed for a preferred one. It lengthens a fail-over to this candidate by as much.
    pub fn campaign_delay(mut self, delay: Duration) -> Self {
        self.settings.campaign_delay = delay;
        self
    }

    /// Steps down politely after leading for so long, plus the [notice](Self::hand_over_notice), so that others get a turn: against state that piles up, and to see that
    /// the hand-over works. At least a lease.
    pub fn max_tenure(mut self, time: Duration) -> Self {
        self.settings.max_tenure = Some(time);
        self
    }

    /// Steps down when the beacon has been silent for so long, plus up to a second: it beats every 500 ms in the task that
    /// polls the work of [`Elector::run`] or of a service, and for a [campaigned](Elector::campaign) leadership on the runtime
    /// that won it. So a process whose runtime is wedged does not lead for ever, though its heartbeats go on. At least 2 s;
    /// above the longest time for which work blocks its thread.
    ///
    /// What is silent can't be dropped either: together with [`end_process_when_stuck`](Self::end_process_when_stuck) the process ends,
    /// without it the lease runs out.
    ///
    /// Default: it is only measured, as `leader_election_beacon_age_seconds` and in [`Elector::health`].
    pub fn step_down_when_silent(mut self, time: Duration) -> Self {
        self.settings.silent_after = Some(time);
        self
    }

    /// Calls back when this process leads, as [`Service::on_elected`](crate::Service::on_elected). For [`start`](Self::start).
    pub fn on_elected<F, Fut>(mut self, callback: F) -> Self
    where
        F: FnMut(Leadership) -> Fut + Send + 'static,
        Fut: Future<Output = WorkResult> + Send + 'static,
    {
        self.callbacks.on_elected(callback);
        self
    }

    /// Calls back when a term is over, as [`Service::on_demoted`](crate::Service::on_demoted). For [`start`](Self::start).
    pub fn on_demoted<F, Fut>(mut self, callback: F) -> Self
    where
        F: FnMut(TermEnded) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.callbacks.on_demoted(callback);
        self
    }

    /// Calls back whenever the leader is seen to change, this process included, `None` when nobody leads: on a task of its own, from
    /// the first campaign on, in whatever way the elector is used. Changes that come faster than the callback returns are
    /// told as one. A panic is caught and counted.
    pub fn on_leader_changed<F, Fut>(mut self, mut callback: F) -> Self
    where
        F: FnMut(Option<LeaderInfo>) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.leader_callback = Some(Box::new(move |leader| callback(leader).boxed()));
        self
    }

    /// Checks the settings. Sends nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] for a name that can't be a key, for advertised data of more than
    /// 4 KiB (every follower reads it at each look), for durations out of their range, for a lock client without fencing tokens or without
    /// heartbeats, and for callbacks that only [`start`](Self::start) would call.
    pub fn build(self) -> Result<Elector, Error> {
        if !self.callbacks.is_empty() {
            return Err(invalid(
                "callbacks for terms are called by a service in the background: use start() instead of build()",
            ));
        }
        self.checked().map(|(elector, _)| elector)
    }

    /// Builds the elector and runs it in the background with its callbacks, or with none: a web service holds the
    /// [`Elector`] in its state and asks it for status, leadership and health.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build), and [`ErrorKind::InvalidInput`] outside of a tokio runtime.
    pub fn start(self) -> Result<Running, Error> {
        let (elector, callbacks) = self.checked()?;
        elector.start(callbacks)
    }

    fn checked(self) -> Result<(Elector, Callbacks), Error> {
        self.check()?;
        let Self { locks, name, settings, membership, callbacks, leader_callback } = self;
        let told = name.to_string();
        let key = locks.key(name)?;
        let group = membership.as_ref().map(Membership::transitions);
        let board = Board::new(&locks, told.into(), settings.advertised.clone(), group);
        let closing = CancellationToken::new();
        let elector = Elector {
            inner: Arc::new(Inner {
                key,
                settings,
                board: Arc::new(board),
                seat: Mutex::new(Seat::default()),
                paused: watch::Sender::new(false),
                serving: watch::Sender::new(false),
                listener: Mutex::new(leader_callback.map_or(Listener::None, Listener::Waiting)),
                gone: closing.child_token(),
                closing,
                locks,
            }),
        };
        if let Some(membership) = membership {
            membership.join(&elector);
        }
        Ok((elector, callbacks))
    }

    fn check(&self) -> Result<(), Error> {
        let context = self.locks.context();
        let (fencing, text) = (context.settings.fencing, context.settings.duration_text);
        if fencing == Fencing::Off || (fencing == Fencing::Record && text == DurationText::JavaMillis) {
            return Err(invalid(
                "a leadership always has a fencing token, and this lock client has none to give: build the elector on one \
                 without delete_on_release or Fencing::Off, and beside Java clients with Fencing::FenceRecord",
            ));
        }
        if !self.locks.renews() {
            return Err(invalid(
                "this lock client sends no heartbeats: build the elector on one without without_heartbeats",
            ));
        }
        let Settings { campaign_delay, max_tenure, silent_after, .. } = self.settings;
        let advertised = self.settings.advertised.as_ref().map_or(0, Vec::len);
        if advertised > MAX_ADVERTISED {
            return Err(invalid(format!(
                "advertised data has {advertised} bytes: at most {MAX_ADVERTISED}, since every follower reads it at each look"
            )));
        }
        if campaign_delay > MAX_CAMPAIGN_DELAY {
            return Err(invalid(format!(
                "a campaign delay of {campaign_delay:?} leaves the service without a leader for as long: at most {MAX_CAMPAIGN_DELAY:?}"
            )));
        }
        let lease = self.locks.timing().lease();
        if let Some(tenure) = max_tenure.filter(|tenure| *tenure < lease) {
            return Err(invalid(format!("a tenure of {tenure:?} is shorter than the lease: at least {lease:?}")));
        }
        if let Some(silence) = silent_after.filter(|silence| *silence < MIN_SILENCE) {
            return Err(invalid(format!(
                "a silence of {silence:?} may be no more than a busy machine: at least {MIN_SILENCE:?}"
            )));
        }
        Ok(())
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

impl std::fmt::Debug for ElectorBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ElectorBuilder")
            .field("name", &self.name)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
