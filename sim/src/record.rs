//! What the store does with a write of ours, for everybody here who has a store.

use crate::protocol::{Seen, Sighting, Write, WriteKind, Writer};

/// Whether the condition of `write` holds.
pub(crate) fn holds(write: &Write, record: Option<&Sighting>) -> bool {
    let named = record.is_some_and(|record| write.names.contains(&record.version));
    match write.kind {
        WriteKind::Renew => named && record.is_some_and(|record| !record.released),
        WriteKind::Claim { .. } => named || (write.or_absent && record.is_none()),
        WriteKind::Release => named,
    }
}

/// The record that an applied `write` leaves, where it stays.
pub(crate) fn after(write: &Write, record: Option<&Sighting>) -> Sighting {
    Sighting {
        version: write.version.clone(),
        lease: write.lease,
        released: write.kind == WriteKind::Release,
        plan: write.plan,
        writer: Writer::Ours,
        token: match write.kind {
            WriteKind::Claim { token } => Some(token),
            WriteKind::Renew | WriteKind::Release => record.and_then(|record| record.token),
        },
    }
}

pub(crate) fn seen(record: Option<&Sighting>) -> Seen {
    record.cloned().map_or(Seen::Absent, Seen::Record)
}
