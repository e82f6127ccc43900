//! Many elections on one client.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures::{Stream, StreamExt, stream};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::board::GroupSender;
use super::{Elector, ElectorBuilder, Inner, transitions};
use crate::lock::LockClient;
use crate::status::Transition;
use crate::store::Key;

/// How many transitions of all members a slow reader may lag behind.
const BACKLOG: usize = 4_096;

/// Electors of one process that belong together: one per shard, tenant or queue. They share the client's keeper thread and
/// connections; this adds one stream of all their transitions, and one shutdown. Cheap to clone.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use dynamo_elector::{Elections, Embedded, LockClient};
///
/// let engine = Embedded::in_memory()?;
/// let locks = LockClient::embedded(&engine, "locks").build().await?;
/// let shards = Elections::new(&locks);
/// for shard in 0..16 {
///     shards.elector(format!("shard-{shard}")).start()?;
/// }
/// for elector in shards.electors() {
///     elector.until_leading().await?;
/// }
/// shards.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Elections {
    pub(super) group: Arc<Group>,
}

pub(super) struct Group {
    locks: LockClient,
    transitions: GroupSender,
    members: Mutex<Vec<Weak<Inner>>>,
    pub(super) closing: CancellationToken,
}

impl Group {
    fn members(&self) -> MutexGuard<'_, Vec<Weak<Inner>>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

/// A place in a group, taken when the elector is built.
pub(super) struct Membership(Arc<Group>);

impl Membership {
    pub(super) fn transitions(&self) -> GroupSender {
        self.0.transitions.clone()
    }

    pub(super) fn join(self, elector: &Elector) {
        let mut members = self.0.members();
        members.retain(|member| member.strong_count() > 0);
        members.push(Arc::downgrade(&elector.inner));
    }
}

impl Elections {
    /// A group without members.
    pub fn new(locks: &LockClient) -> Self {
        let transitions = broadcast::Sender::new(BACKLOG);
        let closing = CancellationToken::new();
        let group = Group { locks: locks.clone(), transitions, members: Mutex::default(), closing };
        Self { group: Arc::new(group) }
    }

    /// Starts the settings of a member: see [`Elector::builder`].
    pub fn elector(&self, name: impl Into<Key>) -> ElectorBuilder {
        ElectorBuilder::new(self.group.locks.clone(), name.into(), Some(Membership(Arc::clone(&self.group))))
    }

    /// All members that still exist.
    pub fn electors(&self) -> Vec<Elector> {
        self.group.members().iter().filter_map(Weak::upgrade).map(|inner| Elector { inner }).collect()
    }

    /// The member of this name, if it exists.
    pub fn get(&self, name: &str) -> Option<Elector> {
        self.electors().into_iter().find(|elector| elector.name() == name)
    }

    /// The transitions of all members from now on, those built later included, each with the name of its election; of one
    /// election in order. A reader that lags far behind finds [`Transition::Missed`], without a name since it may be
    /// anybody's. Ends when the group and all its members are gone.
    pub fn transitions(&self) -> impl Stream<Item = (Option<Arc<str>>, Transition)> + Send + Unpin + 'static + use<> {
        transitions::of_all(self.group.transitions.subscribe())
    }

    /// [Shuts down](Elector::shutdown) all members there are by now, all at once.
    ///
    /// # Cancel safety
    ///
    /// As [`Elector::shutdown`].
    pub async fn shutdown(&self) {
        self.group.closing.cancel();
        let electors = self.electors();
        stream::iter(&electors).for_each_concurrent(None, |elector| elector.shutdown()).await;
    }
}

impl std::fmt::Debug for Elections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Elections").field("members", &self.group.members().len()).finish_non_exhaustive()
    }
}
