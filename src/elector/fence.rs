//! Writes that a deposed leader cannot make: the number of a term, checked by whatever is written to.

mod condition;

use std::sync::Arc;

use aws_sdk_dynamodb::types::ConditionCheck;
use aws_sdk_dynamodb::types::builders::ConditionCheckBuilder;

pub use condition::{FenceCondition, FencedWrite};

use crate::error::{Error, ErrorKind};

/// The number of one term, and what checks it where the effect happens. From
/// [`Leadership::fence`](crate::Leadership::fence) or [`LeadershipView::fence`](crate::LeadershipView::fence).
///
/// [`is_valid`](crate::Leadership::is_valid) cannot cover a pause between the check and the effect, nor an effect under way: the
/// process is frozen, the packet is late, and by then somebody else leads. A write that carries the number of its term is refused even
/// then. So this holds no lock, does not hold a release back, and outlives its leadership: late writes are what it is for.
///
/// | | what is refused | costs | for |
/// | --- | --- | --- | --- |
/// | [`condition`](Self::condition) | writes of a deposed leader **on items that the newer leader has already written** | nothing but an attribute | one item at a time, as often as you like |
/// | [`condition_check`](Self::condition_check) | **every** write of a deposed leader **once a newer term was handed out** | a transaction, one at a time in an election | several items, and items that the newer leader may not have written yet |
/// | [`number`](Self::number) | the same as `condition`, if the resource checks it | what the resource makes of it | SQL, object stores, services |
///
/// None of them makes a write happen once: a request that is repeated within its own term passes.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem};
/// use dynamo_elector::{Elector, Embedded, Fencing, LockClient};
///
/// let engine = Embedded::in_memory()?;
/// let locks = LockClient::embedded(&engine, "locks").fencing(Fencing::FenceRecord).build().await?;
/// let elector = Elector::builder(&locks, "nightly-billing").build()?;
/// let leadership = elector.campaign().await?;
/// let client = engine.client();
/// # LockClient::embedded(&engine, "schedule").build().await?;
///
/// // One item: the update is refused once a later term has written it.
/// let update = client
///     .update_item()
///     .table_name("schedule")
///     .key("key", AttributeValue::S("next-run".into()))
///     .update_expression("SET opens = :opens")
///     .expression_attribute_values(":opens", AttributeValue::N("3".into()));
/// leadership.fence().condition().apply_to(update)?.send().await?;
///
/// // A transaction: refused once a later term was handed out, whatever that one has written.
/// let report = Put::builder().table_name("schedule").item("key", AttributeValue::S("report".into())).build()?;
/// client
///     .transact_write_items()
///     .transact_items(TransactWriteItem::builder().condition_check(leadership.fence().condition_check()?).build())
///     .transact_items(TransactWriteItem::builder().put(report).build())
///     .send()
///     .await?;
/// # leadership.resign().await;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Fence {
    number: u64,
    /// Where there is a fence record. Made when the term began: a fence keeps no client alive.
    check: Option<Arc<ConditionCheckBuilder>>,
}

impl Fence {
    pub(super) fn new(number: u64, check: Option<ConditionCheckBuilder>) -> Self {
        Self { number, check: check.map(Arc::new) }
    }

    /// The number of the term, the same as [`Leadership::fencing_token`](crate::Leadership::fencing_token): for resources other
    /// than DynamoDB.
    ///
    /// # Guarantee
    ///
    /// It is larger than that of every term before. What that is worth, the resource decides: it has to keep the largest number that it
    /// has seen **together with what it guards**, in one atomic step with the effect, and to refuse a smaller one. Then it accepts no write of a
    /// deposed leader once it has seen a newer leader's. A write that arrives before the newer leader's first one passes. Compare with
    /// `<=`, never with `<`: a term writes more than once.
    ///
    /// # SQL
    ///
    /// One statement; no row changed means refused (or no such row). A first write inserts, with the same condition on conflict.
    ///
    /// ```sql
    /// UPDATE jobs SET state = :state, fence = :t WHERE id = :id AND fence <= :t;
    ///
    /// INSERT INTO jobs (id, state, fence) VALUES (:id, :state, :t)
    ///     ON CONFLICT (id) DO UPDATE SET state = excluded.state, fence = excluded.fence WHERE jobs.fence <= excluded.fence;
    /// ```
    ///
    /// The number fits a signed `BIGINT`. Don't delete such rows, as with [`condition`](Self::condition).
    ///
    /// # Object stores
    ///
    /// They compare no numbers, but replace an object only if it is still the one that was read:
    ///
    /// ```text
    /// HEAD  report.csv                          → ETag "e1", x-amz-meta-fence: 6
    /// 6 > ours?                                 → refused: give up
    /// PUT   report.csv                            If-Match: "e1", x-amz-meta-fence: 7
    ///                                           → 412: somebody wrote in between, read again
    /// PUT   report.csv (where there was none)     If-None-Match: *, x-amz-meta-fence: 7
    /// ```
    ///
    /// # Services
    ///
    /// A header with each request. The service stores the number with what it changes and answers a smaller one with 412 or 409:
    ///
    /// ```text
    /// POST /invoices/run
    /// Fencing-Token: 7
    /// ```
    ///
    /// Numbers of different elections have nothing to do with each other: a resource that is written under several keeps one for each.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// A condition for a write of your own to DynamoDB: on one item, in any table. Needs no fence record.
    ///
    /// # Guarantee
    ///
    /// No write of a deposed leader is applied **on items that the newer leader has already written** with it. One that the newer leader
    /// has not written yet still takes the deposed leader's late write; see [`condition_check`](Self::condition_check). See
    /// [`FenceCondition`] for what every writer of such an item has to keep to.
    pub fn condition(&self) -> FenceCondition {
        FenceCondition::new(self.number)
    }

    /// A check of the term for a `TransactWriteItems` of your own, beside up to 99 writes, whichever they are: also deletions.
    ///
    /// # Guarantee
    ///
    /// No write of a deposed leader is applied **once a newer term was handed out**: before anybody gets a
    /// [`Leadership`](crate::Leadership), its number is sealed in the election's fence record, and the transaction holds only while its own
    /// number is the one there. Between two terms, while nobody leads, the last one's still passes. It holds if all candidates of the election
    /// have [`Fencing::FenceRecord`](crate::Fencing::FenceRecord): others seal nothing.
    ///
    /// # Conflicts
    ///
    /// All transactions of an election check the same item, and an item that is only checked counts for DynamoDB like one that is written: of two
    /// transactions under way at the same time one is cancelled, with the reason `TransactionConflict`. Nothing is applied then, and it
    /// may be tried again. So send one such transaction at a time in an election, retry on
    /// `TransactionConflict` (the SDK does not), and use [`condition`](Self::condition) where throughput matters. A leader that is being
    /// elected seals its number against such transactions by trying again until its lease is over: a stream of them without a pause delays it.
    ///
    /// A cancelled transaction lists a reason for each of its parts: `ConditionalCheckFailed` for this one means that the term is over.
    ///
    /// The transaction is sent with your own client. Its tables must be in one account and Region with the lock table, none of them a global
    /// table of the strongly consistent kind (MRSC), which takes no transactions: use [`condition`](Self::condition) there. It needs
    /// `dynamodb:ConditionCheckItem` on the key `<election>#fence` (`iam/fenced-writer.json`).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NoFencing`] unless the lock client was built with [`Fencing::FenceRecord`](crate::Fencing::FenceRecord).
    pub fn condition_check(&self) -> Result<ConditionCheck, Error> {
        let check = self.check.as_ref().ok_or_else(|| {
            Error::new(
                ErrorKind::NoFencing,
                "there is no fence record to check in a transaction: build the lock client with fencing(Fencing::FenceRecord), in all \
                 processes of the election, or use condition() on each item",
            )
        })?;
        ConditionCheckBuilder::clone(check).build().map_err(|error| {
            Error::new(ErrorKind::InvalidInput, "the check of the fence record can't be made").with_source(error)
        })
    }
}
