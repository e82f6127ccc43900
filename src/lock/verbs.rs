//! Reading, listing, and what operators do: requests on the keeper that hold nothing.

use std::sync::Arc;

use futures::Stream;

use super::context::{Context, Unwatched};
use super::held::HeldLock;
use super::{LockClient, no_entropy};
use crate::error::{Error, ErrorKind};
use crate::protocol::{Consistency, SentAt, Version};
use crate::store::{Found, Key, LockRecord, Store, Written, check_partition};

/// How often an operator's write is tried against a holder that renews in between.
const TRIES: usize = 5;

/// # Reading
impl LockClient {
    /// Reads a record without touching it, strongly consistent. `None` where there is none.
    ///
    /// [`LockRecord::is_expired`] says whether it is free to be taken over, as far as this client knows.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::MalformedRecord`] if it is no lock record, else what kept it from being read.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the read.
    pub async fn get(&self, key: impl Into<Key>) -> Result<Option<LockRecord>, Error> {
        let key = self.key(key.into())?;
        self.keeper.call(|context| async move { context.look(&key).await }).await
    }

    /// All locks of the table, in no order, page by page as they are asked for. Strongly consistent a page.
    ///
    /// A record that can't be read is one item with its error ([`ErrorKind::MalformedRecord`]), and the listing goes
    /// on; a page that can't be had is the last item. A Scan reads, and costs, the whole table.
    ///
    /// # Cancel safety
    ///
    /// Between items nothing is under way; dropping the stream drops the page that is being read.
    pub fn list(&self) -> impl Stream<Item = Result<LockRecord, Error>> + Send + Unpin + use<> {
        self.pages(None)
    }

    /// All locks with this partition key, in the order of their sort keys; as [`list`](Self::list), by a Query. A key that
    /// can't be one is one item, [`ErrorKind::InvalidInput`].
    ///
    /// # Cancel safety
    ///
    /// As [`list`](Self::list).
    pub fn list_partition<P: Into<String>>(
        &self,
        partition: P,
    ) -> impl Stream<Item = Result<LockRecord, Error>> + Send + Unpin + use<P> {
        self.pages(Some(partition.into()))
    }

    fn pages(&self, partition: Option<String>) -> impl Stream<Item = Result<LockRecord, Error>> + Send + Unpin + use<> {
        // The state is where the next page starts: `Some(None)` at the beginning of the table, `None` past its end.
        let locks = self.clone();
        let pages = futures::stream::unfold(Some(None), move |next| {
            let (locks, partition) = (locks.clone(), partition.clone());
            async move {
                let start = next?;
                let page = locks.keeper.call(|context| async move {
                    partition.as_deref().map_or(Ok(()), check_partition)?;
                    let page = context.store.page(partition.as_deref(), start).await?;
                    Ok((page.found.into_iter().map(|(key, found)| listed(&context, &key, found)).collect(), page.next))
                });
                let (items, next): (Vec<_>, _) = match page.await {
                    Ok((items, next)) => (items, next.map(Some)),
                    Err(error) => (vec![Err(error)], None),
                };
                Some((futures::stream::iter(items), next))
            }
        });
        Box::pin(futures::StreamExt::flatten(pages))
    }

    /// Whether this client holds the lock on `key` at this moment. Sends nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] for a key that can't be one.
    pub fn has_lock(&self, key: impl Into<Key>) -> Result<bool, Error> {
        Ok(self.context().held.holds(&self.key(key.into())?))
    }

    /// The locks, and leaderships, that this client holds at this moment. Sends nothing.
    pub fn held(&self) -> Vec<HeldLock> {
        self.context().held.list()
    }
}

/// # Operators
///
/// Verbs for people, not for services: each changes a record that somebody else may hold.
impl LockClient {
    /// Marks a lock released whoever holds it: a live holder takes it as a loss at its next heartbeat, so it may act for that
    /// long. Returns the record as it is then; `None` where there is none. One that is released already is left alone.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::MalformedRecord`] and [`ErrorKind::NewerFormat`] for what is no record of ours to touch,
    /// [`ErrorKind::Held`] if its holder renewed it each time before the mark could be set, else what kept it from
    /// being written.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the request under way, which may have been applied.
    pub async fn force_release(&self, key: impl Into<Key>) -> Result<Option<LockRecord>, Error> {
        let key = self.key(key.into())?;
        let release = |context: Arc<Context>| async move {
            for _ in 0..TRIES {
                let Some(record) = context.look(&key).await? else { return Ok(None) };
                refuse_newer(&record)?;
                if record.is_released() {
                    return Ok(Some(record));
                }
                let (sent, version) = context.stamp()?;
                if let Written::Applied(now) = context.store.force_release(&record, &version).await? {
                    return context.written(&key, sent, now).map(Some);
                }
            }
            let message = format!("{key} was renewed each time before it could be released: try again");
            Err(Error::new(ErrorKind::Held, message))
        };
        self.keeper.call(release).await
    }

    /// Makes a lock record of what stands under `key` and is none: a released one that keeps its data, its
    /// additional attributes and its fencing token as far as they can be read. One that is sound is left alone. Returns
    /// the record as it is then.
    ///
    /// Whoever holds the lock in spite of the damage loses it at its next heartbeat. The next token will be above the one in the record
    /// and all that this client has seen: **whoever repairs a record vouches for that**. Where the token was lost, or clients of another make have
    /// written, use [`Fencing::FenceRecord`](crate::Fencing::FenceRecord) or another key.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NoRecord`] if there is nothing, [`ErrorKind::NewerFormat`], [`ErrorKind::Held`] if it changed while it
    /// was being repaired, else what kept it from being written.
    ///
    /// # Cancel safety
    ///
    /// As [`force_release`](Self::force_release).
    pub async fn repair(&self, key: impl Into<Key>) -> Result<LockRecord, Error> {
        let key = self.key(key.into())?;
        let repair = |context: Arc<Context>| async move {
            let Some(item) = context.store.read_item(&key, Consistency::Strong, None).await? else {
                return Err(no_record(&key));
            };
            if let Found::Record(record) = context.store.found(&item, &key) {
                refuse_newer(&record)?;
                return Ok(*record);
            }
            if Store::is_newer(&item) {
                let message = format!("{key} was written by a newer version of this crate: repair it with that one");
                return Err(Error::new(ErrorKind::NewerFormat, message));
            }
            let lease = context.duration_text(&key).format(context.settings.timing.lease());
            let floor = context.with_known(&key, |known| known.observation.next_token() - 1);
            let (sent, version) = context.stamp()?;
            match context.store.repair(&key, &item, lease, floor, &version).await? {
                Written::Applied(now) => context.written(&key, sent, now),
                Written::Refused(_) => Err(Error::new(ErrorKind::Held, format!("{key} changed meanwhile: look again"))),
            }
        };
        self.keeper.call(repair).await
    }

    /// Empties the record of a lock that is no longer used: of all but what lets its fencing tokens go on rising, should it
    /// ever be used again. Deleting it instead would let them start anew.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Held`] unless it is released: [release it](Self::force_release) first; [`ErrorKind::NoRecord`],
    /// [`ErrorKind::MalformedRecord`], [`ErrorKind::NewerFormat`], else what kept it from being written.
    ///
    /// # Cancel safety
    ///
    /// As [`force_release`](Self::force_release).
    pub async fn retire(&self, key: impl Into<Key>) -> Result<LockRecord, Error> {
        let key = self.key(key.into())?;
        let retire = |context: Arc<Context>| async move {
            let record = context.look(&key).await?.ok_or_else(|| no_record(&key))?;
            refuse_newer(&record)?;
            let held =
                || Error::new(ErrorKind::Held, format!("{key} is not released: release it before it is retired"));
            if !record.is_released() {
                return Err(held());
            }
            let (sent, version) = context.stamp()?;
            match context.store.retire(&record, &version).await? {
                Written::Applied(now) => context.written(&key, sent, now),
                Written::Refused(_) => Err(held()),
            }
        };
        self.keeper.call(retire).await
    }
}

impl Context {
    /// One strongly consistent look, which is an observation too (R12).
    async fn look(&self, key: &Key) -> Result<Option<LockRecord>, Error> {
        let sent = SentAt(self.clock.now());
        let found = self.store.read(key, Consistency::Strong, None).await?;
        self.observe(key, &found, sent, self.clock.now(), Consistency::Strong, &Unwatched);
        self.shown(key, found)
    }

    fn shown(&self, key: &Key, found: Found) -> Result<Option<LockRecord>, Error> {
        match found {
            Found::Absent => Ok(None),
            Found::Record(mut record) => {
                self.annotate(&mut record);
                Ok(Some(*record))
            }
            malformed @ Found::Malformed(_) => Err(malformed.obstacle(key).unwrap_or_else(|| no_record(key))),
        }
    }

    /// When an operator's write is sent, and the version it installs.
    fn stamp(&self) -> Result<(SentAt, Version), Error> {
        let version = self.entropy.version().ok_or_else(no_entropy)?;
        Ok((SentAt(self.clock.now()), version))
    }

    fn written(&self, key: &Key, sent: SentAt, now: Option<Found>) -> Result<LockRecord, Error> {
        let found = now.unwrap_or(Found::Absent);
        self.observe(key, &found, sent, self.clock.now(), Consistency::Strong, &Unwatched);
        self.shown(key, found)?.ok_or_else(|| no_record(key))
    }
}

fn listed(context: &Context, key: &Key, found: Found) -> Result<LockRecord, Error> {
    context.shown(key, found)?.ok_or_else(|| no_record(key))
}

fn no_record(key: &Key) -> Error {
    Error::new(ErrorKind::NoRecord, format!("there is no record under {key}"))
}

fn refuse_newer(record: &LockRecord) -> Result<(), Error> {
    record.obstacle().map_or(Ok(()), Err)
}
