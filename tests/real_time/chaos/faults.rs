//! What may go wrong, drawn from a seed.

use std::time::Duration;

use dynamo_elector::Timing;
use fastrand::Rng;

use super::journal::Life;
use super::proxy::Mode;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Kill,
    Terminate,
    Stop,
    StopTwoLeases,
    Cut,
    LoseRequests,
    LoseReplies,
    HalfOpen,
    Slow,
    ResetStorm,
    ResetRequests,
    Starve,
    /// Not drawn: a test of its own.
    Double,
}

impl Kind {
    /// With how often they are drawn, of a hundred.
    pub(crate) const ALL: [(Self, u32); 12] = [
        (Self::Kill, 24),
        (Self::Terminate, 11),
        (Self::Stop, 12),
        (Self::StopTwoLeases, 12),
        (Self::Cut, 9),
        (Self::LoseRequests, 6),
        (Self::LoseReplies, 6),
        (Self::HalfOpen, 5),
        (Self::Slow, 6),
        (Self::ResetStorm, 3),
        (Self::ResetRequests, 3),
        (Self::Starve, 3),
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "killed (SIGKILL), restarted under the same label",
            Self::Terminate => "told to stop (SIGTERM), restarted under the same label",
            Self::Stop => "stopped (SIGSTOP) for 0.3 to 2.5 leases, continued",
            Self::StopTwoLeases => "stopped (SIGSTOP) for 2 leases, continued",
            Self::Cut => "cut off: connections reset, new ones too",
            Self::LoseRequests => "requests lost, connections open",
            Self::LoseReplies => "requests delivered, replies lost",
            Self::HalfOpen => "requests and replies lost, connections open",
            Self::Slow => "slow: 50 to 1500 ms each way, or a few bytes at a time",
            Self::ResetStorm => "each connection reset within 300 ms",
            Self::ResetRequests => "connections reset in a request, or before its reply",
            Self::Starve => "processors taken by busy processes",
            Self::Double => "stopped (SIGSTOP), and continued beside its successor of the same label",
        }
    }
}

/// A fault to come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    /// From the fault before, or from the start.
    pub(crate) after: Duration,
    /// How long it lasts; for a process that ends, how long it stays away.
    pub(crate) lasts: Duration,
    /// At whoever leads, otherwise at this replica.
    pub(crate) leader: bool,
    pub(crate) replica: usize,
    pub(crate) mode: Mode,
    /// Busy processes for each processor.
    pub(crate) burners: usize,
}

impl Plan {
    pub(crate) fn at_leader(kind: Kind, after: Duration, lasts: Duration) -> Self {
        let mode = if kind == Kind::Cut { Mode::Cut } else { Mode::Passes };
        Self { kind, after, lasts, leader: true, replica: 0, mode, burners: 0 }
    }

    /// One fault, at most 7.5 s long, 8 to 16 s after the last; a quarter follow within 2 s, onto one that still lasts.
    pub(crate) fn draw(random: &mut Rng, replicas: usize) -> Self {
        let lease = Timing::aggressive().lease();
        let mut number = random.u32(0..Kind::ALL.iter().map(|(_, share)| share).sum());
        let drawn = Kind::ALL.iter().find(|(_, share)| {
            let found = number < *share;
            number = number.saturating_sub(*share);
            found
        });
        let kind = drawn.unwrap().0;
        let part = random.f64();
        let lasts = match kind {
            Kind::Kill | Kind::Terminate => Duration::from_secs(2).mul_f64(part),
            Kind::StopTwoLeases => lease * 2,
            Kind::Starve => Duration::from_secs(2) + Duration::from_secs(4).mul_f64(part),
            _ => lease.mul_f64(0.3 + 2.2 * part),
        };
        let delay = Duration::from_millis(random.u64(50..1500));
        let mode = match kind {
            Kind::Cut => Mode::Cut,
            Kind::LoseRequests => Mode::LosesRequests,
            Kind::LoseReplies => Mode::LosesReplies,
            Kind::HalfOpen => Mode::HalfOpen,
            Kind::Slow => Mode::Slow { delay, trickles: random.bool() },
            Kind::ResetStorm => Mode::ResetStorm,
            Kind::ResetRequests => Mode::ResetsRequests,
            _ => Mode::Passes,
        };
        let after = if random.f64() < 0.25 { random.u64(200..2_000) } else { random.u64(8_000..16_000) };
        Self {
            kind,
            after: Duration::from_millis(after),
            lasts,
            leader: random.f64() < 0.8,
            replica: random.usize(0..replicas),
            mode,
            burners: random.usize(1..=3),
        }
    }
}

/// A fault that happened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Fired {
    pub(crate) kind: Kind,
    /// `None` where it hits all.
    pub(crate) life: Option<Life>,
    /// The token under which its target led at that moment.
    pub(crate) led: Option<u64>,
    pub(crate) at: u64,
    /// When it ended; for a process that ended, when its successor was started.
    pub(crate) until: Option<u64>,
}
