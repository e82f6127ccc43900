//! What operators do to a record, and the fence record beside it. Each is one conditional write.

use aws_sdk_dynamodb::types::ConditionCheck;
use aws_sdk_dynamodb::types::builders::ConditionCheckBuilder;

use super::expression::{Expression, Mend};
use super::key::Key;
use super::record::{Item, Malformed, attribute, lease_of, millis, text, token, writer};
use super::{DurationText, Found, LockRecord, Store, Written};
use crate::error::Error;
use crate::protocol::{Consistency, Moment, Version, Writer};

/// The owner of a record that had none.
const NOBODY: &str = "repaired";

/// How a seal went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sealed {
    Done,
    /// Somebody sealed this number, or a higher one, before.
    Below(u64),
}

impl Store {
    /// Marks the record released if it still is what was seen.
    pub(crate) async fn force_release(&self, seen: &LockRecord, anew: &Version) -> Result<Written, Error> {
        let _place = self.place(None).await?;
        let anew = (seen.writer() != Writer::Ours).then_some(anew);
        self.update(seen.key(), Expression::force_release(&seen.version, anew), true).await
    }

    /// Takes everything but the floor of its tokens out of a released record.
    pub(crate) async fn retire(&self, seen: &LockRecord, version: &Version) -> Result<Written, Error> {
        let _place = self.place(None).await?;
        self.update(seen.key(), Expression::retire(&seen.version, seen.writer(), version, &retired(seen)), true).await
    }

    /// The record as it is in the table, damaged or not.
    pub(crate) async fn read_item(
        &self,
        key: &Key,
        consistency: Consistency,
        held_until: Option<Moment>,
    ) -> Result<Option<Item>, Error> {
        self.fetch(self.get(key).consistent_read(consistency == Consistency::Strong), held_until).await
    }

    /// Makes a lock record of what stands under `key`: a released one, that anybody may acquire.
    pub(crate) async fn repair(
        &self,
        key: &Key,
        item: &Item,
        lease: String,
        floor: u64,
        version: &Version,
    ) -> Result<Written, Error> {
        let _place = self.place(None).await?;
        let mend = mend(item, lease, floor);
        self.update(key, Expression::repair(&mend, version, &self.schema.partition_key), true).await
    }

    /// Whether a newer format of this crate wrote it, readable to us or not (R14).
    pub(crate) fn is_newer(item: &Item) -> bool {
        text(item, attribute::VERSION).is_ok_and(|version| writer(item, &Version::new(version)) == Writer::Newer)
    }

    /// The highest token that was ever sealed for `key`, 0 if none was.
    pub(crate) async fn sealed_token(&self, key: &Key) -> Result<u64, Error> {
        let request = self
            .get(&key.fence())
            .consistent_read(true)
            .projection_expression("#token")
            .expression_attribute_names("#token", attribute::TOKEN);
        self.fetch(request, None).await?.map_or(Ok(0), |item| sealed(&item, key))
    }

    /// Seals `token` for `key`, which is held until then, once for a term and before anybody is told of it.
    pub(crate) async fn seal(
        &self,
        held_until: Option<Moment>,
        key: &Key,
        token: u64,
        version: &Version,
        owner: &str,
        text: DurationText,
    ) -> Result<Sealed, Error> {
        let _place = self.place(held_until).await?;
        let expression = Expression::seal(token, version, owner, &text.format(crate::timing::MIN_LEASE));
        match self.write_item(&key.fence(), expression, false).await? {
            Ok(_) => Ok(Sealed::Done),
            Err(old) => Ok(Sealed::Below(old.as_ref().map_or(Ok(0), |item| sealed(item, key))?)),
        }
    }

    /// For a transaction of the user's: holds while `token` is the number that was sealed last for `key`.
    pub(crate) fn fence_check(&self, key: &Key, token: u64) -> ConditionCheckBuilder {
        let expression = Expression::sealed(token);
        ConditionCheck::builder()
            .table_name(&self.schema.table)
            .set_key(Some(self.key_attributes(&key.fence())))
            .condition_expression(expression.condition)
            .set_expression_attribute_names(Some(expression.names))
            .set_expression_attribute_values(Some(expression.values))
    }
}

/// What of a record is no longer needed once its lock is no longer used.
pub(super) fn retired(seen: &LockRecord) -> Vec<String> {
    let own = [attribute::DATA, attribute::HEARTBEAT, attribute::ENDING, attribute::ACQUIRED_AT];
    // A token that can't be read is no floor, and would be damage behind our stamp.
    let unreadable = seen.sighting().token.is_none().then_some(attribute::TOKEN);
    own.into_iter().chain(unreadable).map(str::to_owned).chain(seen.attributes().keys().cloned()).collect()
}

fn sealed(item: &Item, key: &Key) -> Result<u64, Error> {
    let damaged = |what: Malformed| Found::Malformed(what).obstacle(&key.fence());
    match token(item) {
        Ok(token) => Ok(token.unwrap_or(0)),
        Err(what) => damaged(what).map_or(Ok(0), Err),
    }
}

/// What `item` lacks to be a lock record.
pub(super) fn mend(item: &Item, lease: String, floor: u64) -> Mend {
    let kept = token(item).ok().flatten();
    let mut remove = Vec::new();
    if item.get(attribute::DATA).is_some_and(|data| !data.is_b()) {
        remove.push(attribute::DATA);
    }
    remove.extend([attribute::HEARTBEAT, attribute::ENDING].into_iter().filter(|name| millis(item, name).is_err()));
    Mend {
        seen: item.get(attribute::VERSION).cloned(),
        owner: text(item, attribute::OWNER).is_err().then(|| NOBODY.to_owned()),
        lease: lease_of(item).is_err().then_some(lease),
        // Whoever repairs it vouches for the floor: without a number it would never give tokens again.
        token: Some(floor.max(kept.unwrap_or(0))),
        remove,
    }
}
