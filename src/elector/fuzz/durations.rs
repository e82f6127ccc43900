//! The durations of a lease, judged once more, in whole numbers.

use std::time::Duration;

use super::{duration, value};
use crate::timing::{Timing, TimingError};

const NANOS: u128 = 1_000_000_000;

/// What a builder was given, and what follows from it.
struct Asked {
    lease: u128,
    heartbeat: u128,
    validity: Bounds,
    operation: u128,
    attempt: u128,
    poll: u128,
    drift: f64,
}

/// Between these an amount lies that a floating-point number has rounded.
#[derive(Debug, Clone, Copy)]
struct Bounds(u128, u128);

impl Bounds {
    fn has(self, duration: Duration) -> bool {
        (self.0..=self.1).contains(&duration.as_nanos())
    }

    fn plus(self, nanos: u128) -> Self {
        Self(self.0 + nanos, self.1 + nanos)
    }
}

/// What a product with one double of about this size may be off by: 2^-50 of it, which is 28 ns of a year.
fn rounded(nanos: u128) -> Bounds {
    let error = (nanos >> 50) + 1;
    Bounds(nanos.saturating_sub(error), nanos + error)
}

/// `g = max(250 ms, 2 % of L)`.
fn guard(lease: u128) -> Bounds {
    let Bounds(low, high) = rounded(lease / 50);
    Bounds(low.max(NANOS / 4), high.max(NANOS / 4))
}

/// `L (1 - rho) / (1 + rho)`, by long division with `rho` as a fraction of 2^60, which is exact but for doubles far below any drift.
fn safe(lease: u128, drift: f64) -> Bounds {
    const ONE: u128 = 1 << 60;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at least 0, below 2^59")]
    let rho = (drift * ONE as f64) as u128;
    rounded(lease * (ONE - rho) / (ONE + rho))
}

impl Asked {
    fn of(text: &str) -> Self {
        let nanos = |name: &str| duration(text, name).map(|duration| duration.as_nanos());
        let lease = nanos("lease").unwrap_or(10 * NANOS);
        let operation = nanos("operation").unwrap_or(lease / 5);
        Self {
            lease,
            heartbeat: nanos("heartbeat").unwrap_or(lease / 4),
            validity: nanos("validity")
                .map_or(rounded(lease / 5 * 4 + lease % 5 * 4 / 5), |nanos| Bounds(nanos, nanos)),
            operation,
            attempt: nanos("attempt").unwrap_or(operation / 2),
            poll: nanos("poll").unwrap_or((lease / 10).clamp(NANOS / 10, NANOS)),
            drift: value(text, "drift").and_then(|drift| drift.parse().ok()).unwrap_or(0.01),
        }
    }

    fn build(&self, text: &str) -> Result<Timing, TimingError> {
        let mut builder = Timing::builder();
        for (name, set) in [
            ("lease", crate::timing::TimingBuilder::lease as fn(_, _) -> _),
            ("heartbeat", crate::timing::TimingBuilder::heartbeat),
            ("validity", crate::timing::TimingBuilder::validity),
            ("operation", crate::timing::TimingBuilder::operation_timeout),
            ("attempt", crate::timing::TimingBuilder::attempt_timeout),
            ("poll", crate::timing::TimingBuilder::poll),
        ] {
            if let Some(duration) = duration(text, name) {
                builder = set(builder, duration);
            }
        }
        builder.max_drift(self.drift).build()
    }

    /// All inequalities, as far as they are certain: `None` where a rounded number decides.
    fn is_sound(&self) -> Option<bool> {
        let millisecond = NANOS / 1_000;
        let shortest = [self.heartbeat, self.attempt, self.poll].into_iter().min()?;
        let exact = (NANOS..=366 * 86_400 * NANOS).contains(&self.lease)
            && self.lease.is_multiple_of(millisecond)
            && self.drift >= 0.0
            && self.drift < 0.5
            && shortest >= millisecond
            && self.heartbeat < self.lease
            && self.attempt * 2 <= self.operation
            && self.poll <= self.lease;
        if !exact {
            return Some(false);
        }
        let (needed, guard) = (self.heartbeat + 2 * self.operation, guard(self.lease));
        let allowed = safe(self.lease, self.drift);
        let may = self.validity.1 >= needed.max(millisecond) && self.validity.0 + guard.0 <= allowed.1;
        let must = self.validity.0 >= needed.max(millisecond) && self.validity.1 + guard.1 <= allowed.0;
        if may == must { Some(may) } else { None }
    }
}

/// A timing that is built holds every inequality of the protocol, and one that is not breaks the one that it names, by the
/// numbers that it names.
pub(super) fn checked(text: &str) {
    let asked = Asked::of(text);
    let built = asked.build(text);
    let sound = asked.is_sound();
    assert!(sound.is_none_or(|sound| sound == built.is_ok()), "sound: {sound:?}, {built:?}");
    match built {
        Ok(timing) => holds(&asked, timing),
        Err(error) => broken(&asked, &error),
    }
}

fn holds(asked: &Asked, timing: Timing) {
    let nanos =
        [timing.lease(), timing.heartbeat(), timing.operation_timeout(), timing.attempt_timeout(), timing.poll()];
    let expected = [asked.lease, asked.heartbeat, asked.operation, asked.attempt, asked.poll];
    assert_eq!(nanos.map(|duration| duration.as_nanos()), expected, "what was asked for");
    assert!(asked.validity.has(timing.validity()) && timing.max_drift() == asked.drift, "{timing:?}");
    let guarded = guard(asked.lease);
    assert!(guarded.has(timing.guard()), "{timing:?}");
    let (hard, safe) = (timing.hard_limit(), safe(asked.lease, asked.drift));
    assert!(Bounds(safe.0.saturating_sub(guarded.1), safe.1 - guarded.0).has(hard), "{hard:?} of {timing:?}");
    // A nanosecond for each of the three roundings: what drains is never cut short of what was believed.
    assert!(timing.validity() <= hard + Duration::from_nanos(3), "{hard:?} of {timing:?}");
    let rest = timing.validity().as_nanos() - asked.heartbeat - asked.operation;
    assert_eq!(timing.max_safe_time().as_nanos(), rest, "V - H - A, and one A is left of it");
    assert_eq!(timing.to_builder().build(), Ok(timing), "built once, sound for good");
    assert_eq!(timing.with_lease(timing.lease()), Ok(timing), "the same lease changes nothing");
}

/// Both sides are those of the inequality, and it does not hold between them.
fn broken(asked: &Asked, error: &TimingError) {
    let message = error.to_string();
    assert!(message.len() > 20 && message.len() < 400 && !message.contains('\n'), "{message}");
    let millisecond = Duration::from_millis(1);
    let is = |duration: Duration, nanos: u128| duration.as_nanos() == nanos;
    let named = match *error {
        TimingError::Lease { lease, min, max } => {
            is(lease, asked.lease) && (lease < min || lease > max || !lease.subsec_nanos().is_multiple_of(1_000_000))
        }
        TimingError::Zero { name, value } => {
            let of_this_name = match name {
                "heartbeat" => is(value, asked.heartbeat),
                "validity" => asked.validity.has(value),
                "attempt timeout" => is(value, asked.attempt),
                "poll" => is(value, asked.poll),
                _ => false,
            };
            of_this_name && value < millisecond
        }
        TimingError::Drift { max_drift } => {
            max_drift.to_bits() == asked.drift.to_bits() && !(0.0..0.5).contains(&max_drift)
        }
        TimingError::HeartbeatTooLong { heartbeat, lease } => {
            is(heartbeat, asked.heartbeat) && is(lease, asked.lease) && heartbeat >= lease
        }
        TimingError::AttemptTooLong { attempt_timeout, operation_timeout } => {
            is(attempt_timeout, asked.attempt)
                && is(operation_timeout, asked.operation)
                && 2 * asked.attempt > asked.operation
        }
        TimingError::ValidityTooShort { validity, needed } => {
            let sum = asked.heartbeat + 2 * asked.operation;
            asked.validity.has(validity) && is(needed, sum.min(Duration::MAX.as_nanos())) && validity < needed
        }
        TimingError::ValidityTooLong { ends, allowed, lease, max_drift } => {
            let (guard, most) = (guard(asked.lease), Duration::MAX.as_nanos());
            let sum = Bounds(asked.validity.plus(guard.0).0.min(most), asked.validity.plus(guard.1).1.min(most));
            let sides = sum.has(ends) && safe(asked.lease, asked.drift).has(allowed);
            sides && is(lease, asked.lease) && max_drift == asked.drift && ends > allowed
        }
        TimingError::PollTooLong { poll, lease } => is(poll, asked.poll) && is(lease, asked.lease) && poll > lease,
    };
    assert!(named, "{error:?}: {message}");
}
