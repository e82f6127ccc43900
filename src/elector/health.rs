//! Health: whether this process should be restarted, and whether it can take part.

use std::time::Duration;

use super::Elector;
use crate::protocol::MOST_PAUSE;
use crate::status::{Role, Status, StopReason};

/// What a liveness and a readiness probe want to know. Neither of them is leadership: a rollout that waits for new replicas to
/// be ready would never end if only the leader were.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Health {
    /// The keeper and the runtime that does the work make progress. `false`: restart this process. Says nothing of
    /// DynamoDB, since a restart does not mend that.
    pub is_live: bool,
    /// It can take part: it campaigns or leads, and DynamoDB has answered lately. Turns `false` before a lease expires.
    pub is_ready: bool,
    /// Why not, for people.
    pub problems: Vec<String>,
    /// How long ago the runtime that does the work gave a sign of life; `None` while the elector is not in use.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "beacon_age_ms", serialize_with = "crate::status::serial::opt_millis")
    )]
    pub beacon_age: Option<Duration>,
    /// How long ago DynamoDB answered; `None` if it never has.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "last_contact_ms", serialize_with = "crate::status::serial::opt_millis")
    )]
    pub last_contact: Option<Duration>,
}

impl Elector {
    /// How this elector is, here and now. Waits for nothing.
    ///
    /// It is live while its keeper runs and the [beacon](crate::ElectorBuilder::step_down_when_silent) is younger than that
    /// setting, or by default than half of [`Timing::validity`](crate::Timing::validity), so that a probe hears of a wedged process before
    /// its lease is over. It is ready while it campaigns or leads, and DynamoDB has answered within a heartbeat (as leader; within
    /// 5 s else, or a poll if that is longer) and the time that one operation may take: at that age a leader still has
    /// [`Timing::operation_timeout`](crate::Timing::operation_timeout) left. After an orderly stop it is live and not ready.
    pub fn health(&self) -> Health {
        let locks = &self.inner.locks;
        let timing = locks.timing();
        let status = self.status().borrow().clone();
        let mut problems = Vec::new();

        let beacon_age = self.inner.board.beacon().age();
        let silence = self.inner.settings.silent_after.unwrap_or(timing.validity() / 2);
        let keeper_failed = match status.role.stop_reason() {
            None => !locks.is_alive(),
            Some(reason) => reason == StopReason::KeeperFailed,
        };
        if keeper_failed {
            problems.push("the keeper does not run any more: restart".to_owned());
        }
        if let Some(age) = beacon_age.filter(|age| *age > silence) {
            problems.push(format!("the runtime that does the work has given no sign of life for {age:?}"));
        }
        let is_live = problems.is_empty();
        self.readiness(&status, &mut problems);
        Health { is_live, is_ready: problems.is_empty(), problems, beacon_age, last_contact: status.last_contact() }
    }

    fn readiness(&self, status: &Status, problems: &mut Vec<String>) {
        let timing = self.inner.locks.timing();
        let period = match status.role {
            Role::Idle => return problems.push("it takes no part yet".to_owned()),
            Role::Stopped(_) => return problems.push("it has stopped".to_owned()),
            Role::Leader => timing.heartbeat(),
            Role::Unknown | Role::Follower => timing.poll().max(MOST_PAUSE),
        };
        let longest = period + timing.operation_timeout();
        match status.last_contact() {
            None => problems.push("DynamoDB has not answered yet".to_owned()),
            Some(age) if age > longest => problems.push(format!("DynamoDB has not answered for {age:?}")),
            Some(_) => {}
        }
        if let Some(trouble) = status.trouble.as_ref().filter(|trouble| !trouble.kind.is_transient()) {
            problems.push(trouble.message.clone());
        }
    }
}
