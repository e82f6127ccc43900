//! What every driver here takes from the lock layer, which none of them includes.

use crate::protocol::{Phase, Renewal, Seen, Sighting, Terms, Write, WriteKind};
use crate::record;
use crate::timing::Timing;

/// After so many failed writes a claim is taken back.
pub(crate) const CLAIM_TRIES: u32 = 3;

/// The part of a timing that a holder needs.
pub(crate) fn terms_of(timing: Timing) -> Terms {
    Terms {
        lease: timing.lease(),
        validity: timing.validity(),
        heartbeat: timing.heartbeat(),
        renewal: Renewal::Scheduled,
        hard_limit: timing.hard_limit(),
    }
}

/// What a node knows by a write of its own, where records stay. Heartbeats are only interesting to others.
pub(crate) fn own_write(write: &Write, token: u64) -> Option<Seen> {
    let known = || Seen::Record(Sighting { token: Some(token), ..record::after(write, None) });
    (write.kind != WriteKind::Renew).then(known)
}

/// Work has been told to stop, and may still run.
pub(crate) fn is_winding_down(phase: Phase) -> bool {
    matches!(phase, Phase::Draining | Phase::Lost(_))
}
