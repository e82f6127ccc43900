//! Where fencing tokens come from.

use std::pin::pin;

use super::context::Context;
use super::tenure::Tenure;
use crate::error::{Error, ErrorKind};
use crate::protocol::Phase;
use crate::store::{DurationText, Key, Sealed, TokenChange};

/// Where the fencing tokens of a client's locks come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Fencing {
    /// From the lock's own record, which is therefore never deleted. Costs nothing. For tables on which only this crate writes.
    ///
    /// Other clients lose the number: Amazon's Java client replaces or deletes the record, and dynamolock (Go), though it keeps
    /// attributes that it does not know, writes back those of the first look it had, which may be many terms old. Once such a
    /// client has written a record, or under Java's text, its locks have no tokens: asking for one is an error, and an elector does not lead.
    /// (One whose record such a client has *deleted* can't be told from a new one. Beside other clients use
    /// [`FenceRecord`](Self::FenceRecord).)
    #[default]
    Record,
    /// From a fence record of its own beside the lock's, under the key `<key>#fence`, which no other client touches.
    ///
    /// For tables shared with other clients, whatever they do. Costs a read and a write more for each acquisition. All
    /// clients of this crate that share a key must have the same setting. Its first number is above the one in the lock's record:
    /// set it before other clients write there.
    FenceRecord,
    /// There are none. Records may then be deleted on release. All clients of this crate that share a key must have the same
    /// setting: one that deletes makes the numbers of the others start anew.
    Off,
}

pub(super) fn no_tokens(why: &str) -> Error {
    Error::new(ErrorKind::NoFencing, format!("there are no fencing tokens here: {why}"))
}

/// Why a lock has no token, if it has none: under this text, taken over from a record that `vouched` for it or not.
pub(super) fn obstacle(fencing: Fencing, text: DurationText, vouched: bool) -> Option<Error> {
    match (fencing, text) {
        (Fencing::Off, _) => Some(no_tokens("they are switched off; set fencing(Fencing::Record)")),
        (Fencing::Record, DurationText::JavaMillis) => Some(no_tokens(
            "this record is shared with Java clients, which forget them; set fencing(Fencing::FenceRecord)",
        )),
        (Fencing::Record, DurationText::Go) if !vouched => Some(no_tokens(
            "another client has written this record, and may have brought an old number back; set fencing(Fencing::FenceRecord), \
             or use another key once no other client is left",
        )),
        (Fencing::Record, DurationText::Go) | (Fencing::FenceRecord, _) => None,
    }
}

/// What a claim does to the record's token. One that is not vouched for is taken out, so that no later holder
/// believes it; so is one that can't be read, which would be damage behind our stamp.
pub(super) fn token_change(fencing: Fencing, vouched: bool) -> TokenChange {
    match fencing {
        Fencing::Off if vouched => TokenChange::Keep,
        Fencing::Record if vouched => TokenChange::Set,
        Fencing::FenceRecord => TokenChange::Set,
        Fencing::Off | Fencing::Record => TokenChange::Forget,
    }
}

/// Seals the token of a lock that was just won, while its renewals go on, before anybody learns of it.
///
/// Exclusion makes the order of seals that are handed out the order of terms; a seal that comes too late
/// burns a number and harms nobody. The token may come out higher than the claim's.
///
/// Ends early when the lease does.
pub(super) async fn seal(context: &Context, key: &Key, tenure: &mut Tenure) -> Result<(), Error> {
    let mut token = tenure.holder().token();
    loop {
        let version = context.entropy.version().ok_or_else(super::no_entropy)?;
        let text = context.duration_text(key);
        let held_until = tenure.holder().held_until();
        let sealing = context.store.seal(held_until, key, token, &version, &context.settings.owner, text);
        match renewing(tenure, sealing).await? {
            Ok(Sealed::Done) => {
                tenure.sealed(token);
                return Ok(());
            }
            Ok(Sealed::Below(found)) => token = token.max(found).saturating_add(1),
            // A transaction that checks the record, or a moment without an answer.
            Err(error) if error.kind().is_transient() => {
                let pause = context.settings.timing.attempt_timeout().mul_f64(0.1 + 0.1 * context.entropy.spread());
                let (clock, until) = (context.clock, context.clock.now().after(pause));
                renewing(tenure, clock.sleep_until(until)).await?;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Waits for `work` while the lease is looked after.
async fn renewing<T>(tenure: &mut Tenure, work: impl Future<Output = T>) -> Result<T, Error> {
    let mut work = pin!(work);
    loop {
        let now = tenure.clock().now();
        tenure.holder().expire(now);
        if tenure.phase() != Phase::Holding {
            return Err(Error::new(ErrorKind::Unavailable, "the lease ended before its fencing token was sealed"));
        }
        tokio::select! { biased;
            done = &mut work => return Ok(done),
            () = tenure.turn() => {}
        }
    }
}
