//! Status, transitions and health as data: durations in milliseconds, enums by the names that metrics use.

use std::time::Duration;

use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};

use super::{LeaderInfo, Role, Status, Trouble};
use crate::ending::{EndReason, ReleaseOutcome};

pub(crate) fn millis<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(whole_millis(*duration))
}

pub(crate) fn opt_millis<S: Serializer>(duration: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    duration.map(whole_millis).serialize(to)
}

fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Serialize for EndReason {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

impl Serialize for ReleaseOutcome {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

/// `stopped` without its reason, which stands beside it in a [`Status`].
impl Serialize for Role {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

/// `address` instead of `data`: what is not text is left out.
impl Serialize for LeaderInfo {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut fields = to.serialize_struct("LeaderInfo", 4)?;
        fields.serialize_field("owner", &self.owner)?;
        fields.serialize_field("address", &self.address())?;
        fields.serialize_field("fencing_token", &self.fencing_token)?;
        fields.serialize_field("acquired_at", &self.acquired_at)?;
        fields.end()
    }
}

impl Serialize for Trouble {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut fields = to.serialize_struct("Trouble", 2)?;
        fields.serialize_field("kind", self.kind.as_str())?;
        fields.serialize_field("message", &self.message)?;
        fields.end()
    }
}

/// As of the moment at which it is serialized: what depends on the clock is computed then.
impl Serialize for Status {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut fields = to.serialize_struct("Status", 14)?;
        fields.serialize_field("role", &self.role)?;
        fields.serialize_field("is_leader", &self.is_leader())?;
        fields.serialize_field("stop_reason", &self.role.stop_reason().map(|reason| reason.as_str()))?;
        fields.serialize_field("epoch", &self.epoch)?;
        fields.serialize_field("in_role_ms", &whole_millis(self.in_role_for()))?;
        fields.serialize_field("fencing_token", &self.fencing_token())?;
        fields.serialize_field("leader", &self.leader)?;
        fields.serialize_field("leader_seen_ms", &self.leader_seen_for().map(whole_millis))?;
        fields.serialize_field("leader_expires_in_ms", &self.leader_expires_in().map(whole_millis))?;
        fields.serialize_field("last_end", &self.last_end)?;
        fields.serialize_field("last_release", &self.last_release)?;
        fields.serialize_field("trouble", &self.trouble)?;
        fields.serialize_field("is_paused", &self.is_paused)?;
        fields.serialize_field("last_contact_ms", &self.last_contact().map(whole_millis))?;
        fields.end()
    }
}
