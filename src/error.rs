//! One error type for the crate: what went wrong, and what the caller can do about it.

use std::fmt;

/// Any error that user work may end with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// What kind of failure it was; decides what a caller can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting, key or owner that can't work. Change the input; nothing was sent.
    InvalidInput,
    /// The table does not exist. Create it.
    TableMissing,
    /// The table's keys differ from the client's settings, or the table cannot exclude (a global table of the MREC kind).
    TableUnfit,
    /// The table is being created or deleted. Retry later.
    TableNotReady,
    /// Credentials are missing, expired or may not do this. Fix them; retrying alone does not help.
    AccessDenied,
    /// DynamoDB limits the rate. Retry later.
    Throttled,
    /// No answer in time, no connection, or a server error. Retry later.
    Unavailable,
    /// The record under this key is not a lock record, or is damaged. It is never taken over; repair it.
    MalformedRecord,
    /// The record was written by a newer version of this crate. It is never taken over; upgrade.
    NewerFormat,
    /// The time to wait for the lock is over and somebody else holds it.
    WaitOver,
    /// There is no record under this key, and the call was to find one.
    NoRecord,
    /// Somebody holds the lock, and the call needs it released. Release it first, by force if need be.
    Held,
    /// There are no fencing tokens here: they are switched off, records are deleted on release, or the table is shared
    /// with clients that forget them. See [`Fencing`](crate::Fencing).
    NoFencing,
    /// The lock or leadership is not held (any more).
    NotHeld,
    /// The work returned an error or panicked, and the elector was to stop then.
    WorkFailed,
    /// The elector already runs, or a leadership handed out earlier still exists.
    Busy,
    /// The client was shut down.
    Closed,
    /// The keeper thread could not be started or has failed.
    KeeperFailed,
}

impl ErrorKind {
    /// What a request to the store can end with.
    pub(crate) const OF_REQUESTS: &[Self] = &[
        Self::InvalidInput,
        Self::TableMissing,
        Self::TableUnfit,
        Self::TableNotReady,
        Self::AccessDenied,
        Self::Throttled,
        Self::Unavailable,
    ];

    /// What can be wrong with a record that was read.
    pub(crate) const OF_RECORDS: &[Self] = &[Self::MalformedRecord, Self::NewerFormat, Self::NoFencing];

    /// Whether trying again later, with nothing changed, can succeed.
    pub fn is_transient(self) -> bool {
        matches!(
            self,
            Self::TableNotReady | Self::Throttled | Self::Unavailable | Self::WaitOver | Self::Held | Self::Busy
        )
    }

    /// The text used in metric labels and trace fields.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidInput => "invalid_input",
            Self::TableMissing => "table_missing",
            Self::TableUnfit => "table_unfit",
            Self::TableNotReady => "table_not_ready",
            Self::AccessDenied => "access_denied",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::MalformedRecord => "malformed_record",
            Self::NewerFormat => "newer_format",
            Self::WaitOver => "wait_over",
            Self::NoRecord => "no_record",
            Self::Held => "held",
            Self::NoFencing => "no_fencing",
            Self::NotHeld => "not_held",
            Self::WorkFailed => "work_failed",
            Self::Busy => "busy",
            Self::Closed => "closed",
            Self::KeeperFailed => "keeper_failed",
        }
    }
}

/// An error of this crate: its [kind](Error::kind), a message that says what to do, and the cause.
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<BoxError>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    pub(crate) fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same for another listener, without its cause.
    pub(crate) fn retold(&self) -> Self {
        Self::new(self.kind, self.message.clone())
    }

    /// What kind of failure it was.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.message)?;
        if let Some(source) = &self.source {
            write!(f, " ({source})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kinds that metrics count. Whoever adds a kind is stopped here by the compiler: say where it belongs.
    #[test]
    fn each_kind_of_the_store_is_counted_from_the_start() {
        let of_a_request = |kind: ErrorKind| match kind {
            ErrorKind::InvalidInput
            | ErrorKind::TableMissing
            | ErrorKind::TableUnfit
            | ErrorKind::TableNotReady
            | ErrorKind::AccessDenied
            | ErrorKind::Throttled
            | ErrorKind::Unavailable => Some(true),
            ErrorKind::MalformedRecord | ErrorKind::NewerFormat | ErrorKind::NoFencing => Some(false),
            ErrorKind::WaitOver
            | ErrorKind::NoRecord
            | ErrorKind::Held
            | ErrorKind::NotHeld
            | ErrorKind::WorkFailed
            | ErrorKind::Busy
            | ErrorKind::Closed
            | ErrorKind::KeeperFailed => None,
        };
        assert!(ErrorKind::OF_REQUESTS.iter().all(|kind| of_a_request(*kind) == Some(true)));
        assert!(ErrorKind::OF_RECORDS.iter().all(|kind| of_a_request(*kind) == Some(false)));
        assert_eq!((ErrorKind::OF_REQUESTS.len(), ErrorKind::OF_RECORDS.len()), (7, 3));
    }
}
