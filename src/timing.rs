//! How long a lease lasts, how often it is renewed, and the inequalities that keep both safe.
//!
//! All of them are checked here and nowhere else: a [`Timing`] that exists is a valid one.

use std::time::Duration;

/// Durations below this make no sense for a lease that crosses a network; a record that names a
/// shorter one is read as this long, which can only delay a take-over.
pub(crate) const MIN_LEASE: Duration = Duration::from_secs(1);
/// A record that names a longer lease is malformed. Reading it as a shorter one would depose a live holder.
pub(crate) const MAX_LEASE: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// The smallest allowance for the delay between a deadline and user code noticing it.
const MIN_GUARD: Duration = Duration::from_millis(250);
/// The guard as a share of the lease, where that is more than [`MIN_GUARD`].
const GUARD_SHARE: f64 = 0.02;
/// 1 %: a hundred times what an undisciplined quartz drifts, and above NTP's 0.05 % slew.
const DEFAULT_DRIFT: f64 = 0.01;
/// Share of the lease that the holder itself believes in. A smaller share does not slow fail-over,
/// it only shortens the outage a holder survives; the rest is room for clocks that disagree.
const VALIDITY_SHARE: f64 = 0.8;

/// The durations of a lease, checked against each other.
///
/// | profile | lease `L` | heartbeat `H` | validity `V` | operation `A` | attempt | poll `P` | clocks may differ by ± |
/// | --- | --- | --- | --- | --- | --- | --- | --- |
/// | [`economy`](Self::economy) | 30 s | 10 s | 24 s | 5 s | 2.5 s | 1 s | 9.9 % |
/// | [`default`](Self::default) | 10 s | 2.5 s | 8 s | 2 s | 1 s | 1 s | 9.6 % |
/// | [`fast`](Self::fast) | 5 s | 1 s | 4 s | 1 s | 0.5 s | 0.5 s | 8.1 % |
/// | [`aggressive`](Self::aggressive) | 3 s | 0.75 s | 2.4 s | 0.8 s | 0.4 s | 0.5 s | 6.2 % |
///
/// chrony may slew a clock by 8.33 %: the first two stand that, `fast` and `aggressive` do not.
///
/// Followers of an election look at the record just after each heartbeat, which they know in advance: they see it some
/// 25 ms late (`lag`). Waiting for a lock, and where the record tells of no heartbeats, they poll it every `P`.
///
/// Mean fail-over after a crash, with `N` candidates and round trip `d`: `L - H/2 + lag + 1.5 d`, polled `L - H/2 + P/N + 1.5 d`;
/// worst `L + P + 2 d`, after a heartbeat off the schedule `L + H + 2 d`. A release that was announced: about two round trips, and up
/// to a tenth of what the drain took; any other one is seen at the next look, so within `H` and at most 5 s, polled within `P`.
///
/// # Examples
///
/// ```
/// use dynamo_elector::Timing;
/// use std::time::Duration;
///
/// let timing = Timing::builder().lease(Duration::from_secs(20)).heartbeat(Duration::from_secs(5)).build()?;
/// assert_eq!(timing.validity(), Duration::from_secs(16));
/// # Ok::<(), dynamo_elector::TimingError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timing {
    lease: Duration,
    heartbeat: Duration,
    validity: Duration,
    operation_timeout: Duration,
    attempt_timeout: Duration,
    poll: Duration,
    max_drift: f64,
}

impl Default for Timing {
    /// 10 s lease, renewed every 2.5 s, believed for 8 s.
    fn default() -> Self {
        Self::profile(10_000, 2_500, 8_000, 2_000, 1_000)
    }
}

impl Timing {
    /// 30 s lease, renewed every 10 s: a quarter of the default's writes, fail-over in about 25 s.
    #[must_use]
    pub fn economy() -> Self {
        Self::profile(30_000, 10_000, 24_000, 5_000, 1_000)
    }

    /// 5 s lease, renewed every second, fail-over in under 5 s.
    #[must_use]
    pub fn fast() -> Self {
        Self::profile(5_000, 1_000, 4_000, 1_000, 500)
    }

    /// 3 s lease, renewed every 0.75 s, fail-over in under 3 s. Survives outages of about 1.6 s at most.
    #[must_use]
    pub fn aggressive() -> Self {
        Self::profile(3_000, 750, 2_400, 800, 500)
    }

    /// Starts a custom timing. Only the lease matters much; whatever is left out follows from it.
    pub fn builder() -> TimingBuilder {
        TimingBuilder::default()
    }

    /// Profiles are constants whose inequalities a test holds.
    fn profile(lease: u64, heartbeat: u64, validity: u64, operation: u64, poll: u64) -> Self {
        Self {
            lease: Duration::from_millis(lease),
            heartbeat: Duration::from_millis(heartbeat),
            validity: Duration::from_millis(validity),
            operation_timeout: Duration::from_millis(operation),
            attempt_timeout: Duration::from_millis(operation / 2),
            poll: Duration::from_millis(poll),
            max_drift: DEFAULT_DRIFT,
        }
    }

    /// `L`: what the record promises to everybody else.
    pub fn lease(&self) -> Duration {
        self.lease
    }

    /// `H`: from the send of one heartbeat to the send of the next.
    pub fn heartbeat(&self) -> Duration {
        self.heartbeat
    }

    /// `V`: how long the holder itself believes a write of its own, counted from before its send.
    pub fn validity(&self) -> Duration {
        self.validity
    }

    /// `A`: bound on one operation, its retries inside the SDK included.
    pub fn operation_timeout(&self) -> Duration {
        self.operation_timeout
    }

    /// Bound on one attempt of an operation.
    pub fn attempt_timeout(&self) -> Duration {
        self.attempt_timeout
    }

    /// `P`: how often the record is read by those who wait for a lock or observe, and by followers as long as they know of no heartbeats;
    /// and the longest pause between retries.
    pub fn poll(&self) -> Duration {
        self.poll
    }

    /// `rho`: the bound on every clock's rate error that the safety argument assumes.
    pub fn max_drift(&self) -> f64 {
        self.max_drift
    }

    /// `g`: what is kept free after a deadline for user code to notice it, `max(250 ms, 2 % of L)`.
    pub fn guard(&self) -> Duration {
        guard(self.lease)
    }

    /// How long after the send work may still drain when leadership ended by force:
    /// `L (1 - rho) / (1 + rho) - g`. Somebody else may act from then on.
    pub fn hard_limit(&self) -> Duration {
        safe_lease(self.lease, self.max_drift).saturating_sub(self.guard())
    }

    /// The longest [`safe_time`](crate::Acquire::safe_time) of a session monitor: `V - H - A`. What is left of the validity
    /// when a heartbeat that is sent on schedule is answered as late as may be.
    pub fn max_safe_time(&self) -> Duration {
        self.validity.saturating_sub(self.heartbeat).saturating_sub(self.operation_timeout)
    }

    /// The same heartbeat and bounds under another lease; the validity keeps its share of it.
    ///
    /// # Errors
    ///
    /// The first [`TimingError`] that applies: a lease too short for the heartbeat, for instance.
    pub fn with_lease(self, lease: Duration) -> Result<Self, TimingError> {
        // In whole nanoseconds, or rounding could refuse a validity that just fits; what is too long is refused as it is.
        let within = lease.min(MAX_LEASE).as_nanos();
        let validity = self.validity.as_nanos() * within / self.lease.as_nanos();
        self.to_builder().lease(lease).validity(Duration::from_nanos_u128(validity)).build()
    }

    /// Turns this timing back into a builder, to change one value of a profile.
    pub fn to_builder(self) -> TimingBuilder {
        TimingBuilder {
            lease: Some(self.lease),
            heartbeat: Some(self.heartbeat),
            validity: Some(self.validity),
            operation_timeout: Some(self.operation_timeout),
            attempt_timeout: Some(self.attempt_timeout),
            poll: Some(self.poll),
            max_drift: Some(self.max_drift),
        }
    }
}

fn guard(lease: Duration) -> Duration {
    MIN_GUARD.max(lease.mul_f64(GUARD_SHARE))
}

/// The part of a lease that has certainly not passed on another clock: `L (1 - rho) / (1 + rho)`.
fn safe_lease(lease: Duration, drift: f64) -> Duration {
    lease.mul_f64((1.0 - drift) / (1.0 + drift))
}

/// Builds a [`Timing`]; see [`Timing::builder`].
///
/// Left out: lease 10 s · heartbeat `L/4` · validity `0.8 L` · operation `L/5` · attempt half of
/// the operation · poll `L/10`, between 0.1 s and 1 s · drift 1 %.
#[derive(Debug, Clone, Copy, Default)]
#[must_use]
pub struct TimingBuilder {
    lease: Option<Duration>,
    heartbeat: Option<Duration>,
    validity: Option<Duration>,
    operation_timeout: Option<Duration>,
    attempt_timeout: Option<Duration>,
    poll: Option<Duration>,
    max_drift: Option<f64>,
}

impl TimingBuilder {
    /// `L`, stored in the record in whole milliseconds.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// `H`, send to send.
    pub fn heartbeat(mut self, heartbeat: Duration) -> Self {
        self.heartbeat = Some(heartbeat);
        self
    }

    /// `V`. More survives longer outages, less tolerates clocks that disagree more.
    pub fn validity(mut self, validity: Duration) -> Self {
        self.validity = Some(validity);
        self
    }

    /// `A`, retries included.
    pub fn operation_timeout(mut self, timeout: Duration) -> Self {
        self.operation_timeout = Some(timeout);
        self
    }

    /// Bound on one attempt.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = Some(timeout);
        self
    }

    /// `P`.
    pub fn poll(mut self, poll: Duration) -> Self {
        self.poll = Some(poll);
        self
    }

    /// `rho`, as a fraction: `0.01` is 1 %.
    pub fn max_drift(mut self, rho: f64) -> Self {
        self.max_drift = Some(rho);
        self
    }

    /// Checks every inequality.
    ///
    /// # Errors
    ///
    /// The first [`TimingError`] that applies; each carries both numbers.
    pub fn build(self) -> Result<Timing, TimingError> {
        let lease = self.lease.unwrap_or(Timing::default().lease);
        let operation_timeout = self.operation_timeout.unwrap_or(lease / 5);
        let timing = Timing {
            lease,
            heartbeat: self.heartbeat.unwrap_or(lease / 4),
            validity: self.validity.unwrap_or(lease.mul_f64(VALIDITY_SHARE)),
            operation_timeout,
            attempt_timeout: self.attempt_timeout.unwrap_or(operation_timeout / 2),
            poll: self.poll.unwrap_or_else(|| (lease / 10).clamp(Duration::from_millis(100), Duration::from_secs(1))),
            max_drift: self.max_drift.unwrap_or(DEFAULT_DRIFT),
        };
        timing.checked()
    }
}

impl Timing {
    fn checked(self) -> Result<Self, TimingError> {
        let Self { lease, heartbeat, validity, operation_timeout, attempt_timeout, poll, max_drift } = self;
        if lease < MIN_LEASE || lease > MAX_LEASE || lease.subsec_nanos() % 1_000_000 != 0 {
            return Err(TimingError::Lease { lease, min: MIN_LEASE, max: MAX_LEASE });
        }
        if !(0.0..0.5).contains(&max_drift) {
            return Err(TimingError::Drift { max_drift });
        }
        for (name, value) in
            [("heartbeat", heartbeat), ("validity", validity), ("attempt timeout", attempt_timeout), ("poll", poll)]
        {
            if value < Duration::from_millis(1) {
                return Err(TimingError::Zero { name, value });
            }
        }
        if heartbeat >= lease {
            return Err(TimingError::HeartbeatTooLong { heartbeat, lease });
        }
        if attempt_timeout > operation_timeout / 2 {
            return Err(TimingError::AttemptTooLong { attempt_timeout, operation_timeout });
        }
        let needed = heartbeat.saturating_add(operation_timeout.saturating_mul(2));
        if validity < needed {
            return Err(TimingError::ValidityTooShort { validity, needed });
        }
        let ends = validity.saturating_add(guard(lease));
        let allowed = safe_lease(lease, max_drift);
        if ends > allowed {
            return Err(TimingError::ValidityTooLong { ends, allowed, lease, max_drift });
        }
        if poll > lease {
            return Err(TimingError::PollTooLong { poll, lease });
        }
        Ok(self)
    }
}

/// Which inequality a timing broke, with both of its sides.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TimingError {
    /// The lease is out of range, or not whole milliseconds (the record could not carry it).
    #[error("lease is {lease:?}: choose whole milliseconds between {min:?} and {max:?}")]
    #[non_exhaustive]
    Lease {
        /// What was asked for.
        lease: Duration,
        /// The shortest allowed.
        min: Duration,
        /// The longest allowed.
        max: Duration,
    },
    /// A duration that must be at least a millisecond is not.
    #[error("{name} is {value:?}: it must be at least 1ms")]
    #[non_exhaustive]
    Zero {
        /// Which setting.
        name: &'static str,
        /// What was asked for.
        value: Duration,
    },
    /// The clock-rate bound is no fraction below one half.
    #[error("max_drift is {max_drift}: it is a fraction, at least 0 and below 0.5 (0.01 is 1 %)")]
    #[non_exhaustive]
    Drift {
        /// What was asked for.
        max_drift: f64,
    },
    /// `H < L` does not hold.
    #[error("heartbeat {heartbeat:?} is not shorter than the lease {lease:?}: a quarter of the lease is usual")]
    #[non_exhaustive]
    HeartbeatTooLong {
        /// What was asked for.
        heartbeat: Duration,
        /// The lease it must be below.
        lease: Duration,
    },
    /// `attempt <= A/2` does not hold: one hung attempt would leave no time for a second.
    #[error("attempt timeout {attempt_timeout:?} is more than half of the operation timeout {operation_timeout:?}")]
    #[non_exhaustive]
    AttemptTooLong {
        /// What was asked for.
        attempt_timeout: Duration,
        /// The whole of which it may be half.
        operation_timeout: Duration,
    },
    /// `V >= H + 2 A` does not hold: one lost heartbeat would end a healthy leadership.
    #[error(
        "validity {validity:?} is shorter than heartbeat + 2 × operation timeout = {needed:?}: shorten either, or lengthen the lease"
    )]
    #[non_exhaustive]
    ValidityTooShort {
        /// What was asked for.
        validity: Duration,
        /// `H + 2 A`.
        needed: Duration,
    },
    /// `V + g <= L (1 - rho) / (1 + rho)` does not hold: somebody else could act before this holder stops.
    #[error(
        "validity + guard = {ends:?} is more than the {allowed:?} that a lease of {lease:?} leaves with clocks off by {max_drift}: shorten the validity or lengthen the lease"
    )]
    #[non_exhaustive]
    ValidityTooLong {
        /// `V + g`.
        ends: Duration,
        /// `L (1 - rho) / (1 + rho)`.
        allowed: Duration,
        /// The lease.
        lease: Duration,
        /// `rho`.
        max_drift: f64,
    },
    /// `P <= L` does not hold.
    #[error("poll {poll:?} is longer than the lease {lease:?}")]
    #[non_exhaustive]
    PollTooLong {
        /// What was asked for.
        poll: Duration,
        /// The lease.
        lease: Duration,
    },
}
