//! Settings of an elector.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::board::Board;
use super::{Elector, Inner, Seat, Settings};
use crate::error::{Error, ErrorKind};
use crate::lock::{Fencing, LockClient};
use crate::store::{DurationText, Key};

/// Work that takes longer than this to wind down is dropped: half of Docker's and a sixth of
/// Kubernetes' grace period, so that the release still fits in.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Builds an [`Elector`]; see [`Elector::builder`].
///
/// | setting | default | why |
/// | --- | --- | --- |
/// | advertise | nothing | |
/// | drain timeout | 5 s | half of Docker's grace period of 10 s |
/// | cancel on first miss | off | one lost packet should not cost a leadership |
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until it is built"]
pub struct ElectorBuilder {
    locks: LockClient,
    name: Key,
    settings: Settings,
}

impl ElectorBuilder {
    pub(super) fn new(locks: LockClient, name: Key) -> Self {
        let settings = Settings { drain_timeout: DRAIN_TIMEOUT, first_miss_ends: false, advertised: None };
        Self { locks, name, settings }
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

    /// Ends leadership at the first heartbeat that does not come through, instead of retrying until
    /// the deadline: for work that would rather stop early than late.
    pub fn cancel_on_first_miss(mut self) -> Self {
        self.settings.first_miss_ends = true;
        self
    }

    /// Checks the settings. Sends nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] for a name that can't be a key, for advertised data of more than
    /// 4 KiB (every follower reads it at each poll), and for a lock client without fencing tokens or without heartbeats.
    pub fn build(self) -> Result<Elector, Error> {
        const MAX_ADVERTISED: usize = 4_096;
        let context = self.locks.context();
        let (fencing, text) = (context.settings.fencing, context.settings.duration_text);
        if fencing == Fencing::Off || (fencing == Fencing::Record && text == DurationText::JavaMillis) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "a leadership always has a fencing token, and this lock client has none to give: build the elector on one \
                 without delete_on_release or Fencing::Off, and beside Java clients with Fencing::FenceRecord",
            ));
        }
        if !self.locks.renews() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "this lock client sends no heartbeats: build the elector on one without without_heartbeats",
            ));
        }
        let advertised = self.settings.advertised.as_ref().map_or(0, Vec::len);
        if advertised > MAX_ADVERTISED {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "advertised data has {advertised} bytes: at most {MAX_ADVERTISED}, since every follower reads it at each poll"
                ),
            ));
        }
        let key = self.locks.key(self.name)?;
        let board = Board::new(key.partition().into(), self.locks.owner(), context.clock, context.telemetry.clone());
        board.advertise(self.settings.advertised.clone());
        Ok(Elector {
            inner: Arc::new(Inner {
                key,
                settings: self.settings,
                board: Arc::new(board),
                seat: Mutex::new(Seat::default()),
                closing: CancellationToken::new(),
                locks: self.locks,
            }),
        })
    }
}
