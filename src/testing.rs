//! Elections under the control of a test.

use std::time::Duration;

use tokio::sync::Mutex;

use crate::elector::{Elector, ElectorBuilder};
use crate::embedded::{Embedded, Fault, Faults};
use crate::error::{Error, ErrorKind};
use crate::lock::{Lock, LockClient};
use crate::store::Key;
use crate::timing::Timing;

/// How often a script looks whether its step is done, in simulated time.
const LOOK: Duration = Duration::from_millis(5);
/// A step that takes longer, in simulated time, never ends.
const PATIENCE: Duration = Duration::from_secs(3_600);

/// An election that a unit test directs: it elects your elector, puts it at risk, deposes it, hangs its store. What runs is the
/// real elector on the real protocol, SDK and embedded engine; scripted are its network and a rival.
///
/// Needs a tokio runtime with paused time (`#[tokio::test(start_paused = true)]`), on which a lease of ten seconds takes none:
/// time moves on whenever every task waits. The table is `locks`; the rival leads at first.
///
/// # Examples
///
/// ```
/// use dynamo_elector::ScriptedElection;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?.block_on(async {
/// let election = ScriptedElection::new("nightly-billing").await?;
/// let elector = election.elector().build()?;
/// let running = elector.clone();
/// let service = tokio::spawn(async move {
///     running.run(async |leadership| {
///         leadership.cancelled().await; // your work, and how it stops
///         Ok(())
///     }).await
/// });
///
/// election.elect().await?;
/// assert!(elector.status().borrow().is_leader());
/// election.put_at_risk().await?;
/// assert!(elector.status().borrow().is_leader(), "one missed heartbeat is no loss");
/// election.recover().await?;
/// election.depose().await?;
/// assert!(!elector.status().borrow().is_leader());
///
/// elector.shutdown().await;
/// service.await??;
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ScriptedElection {
    key: Key,
    engine: Embedded,
    faults: Faults,
    locks: LockClient,
    rival: LockClient,
    /// What the rival holds.
    crown: Mutex<Option<Lock>>,
}

impl ScriptedElection {
    /// An election with default [`Timing`], in which the rival leads.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] for a name that can't be a key.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with time.
    pub async fn new(name: impl Into<Key> + Send) -> Result<Self, Error> {
        Self::with_timing(name, Timing::default()).await
    }

    /// The same with another timing.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    pub async fn with_timing(name: impl Into<Key> + Send, timing: Timing) -> Result<Self, Error> {
        let key = name.into();
        let (engine, faults) = (Embedded::in_memory()?, Faults::none());
        let client = |faults: &Faults, owner: &str, seed| {
            let builder = LockClient::builder(&engine.client_with_faults(faults), "locks");
            builder.share_http_client().create_table().timing(timing).owner(owner).simulated(seed)
        };
        let locks = client(&faults, "under-test", 1).build().await?;
        let rival = client(&Faults::none(), "rival", 2).build().await?;
        let crown = Mutex::new(Some(rival.acquire(key.clone()).await?));
        Ok(Self { key, engine, faults, locks, rival, crown })
    }

    /// Starts the settings of the elector under test. It can be one only, and must be started or campaign to be elected.
    pub fn elector(&self) -> ElectorBuilder {
        Elector::builder(&self.locks, self.key.clone())
    }

    /// The client of the elector under test: for plain locks, further electors, and [`LockClient::suspend`].
    pub fn locks(&self) -> &LockClient {
        &self.locks
    }

    /// The faults of its network, to script what is not here.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// The engine behind it: `client()` is an SDK client for the tables that the work uses.
    pub fn engine(&self) -> &Embedded {
        &self.engine
    }

    /// The rival lets go; returns when the elector under test leads.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WaitOver`] if it does not campaign, or is paused.
    ///
    /// # Cancel safety
    ///
    /// What was begun goes on.
    pub async fn elect(&self) -> Result<(), Error> {
        self.faults.set(|_| Fault::Deliver);
        if let Some(crown) = self.crown.lock().await.take() {
            crown.release().await?;
        }
        self.until(|locks| leads(locks, &self.key), "is not elected: is it started, and not paused?").await
    }

    /// Its store stops answering; returns when a heartbeat was missed. It still leads, until its deadline.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotHeld`] if it does not lead.
    ///
    /// # Cancel safety
    ///
    /// What was begun goes on.
    pub async fn put_at_risk(&self) -> Result<(), Error> {
        self.must_lead()?;
        self.hang();
        self.until(|locks| at_risk(locks, &self.key), "does not miss a heartbeat").await
    }

    /// Its store answers again; returns when a heartbeat has come through, if it still leads.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WaitOver`] if none does.
    ///
    /// # Cancel safety
    ///
    /// What was begun goes on.
    pub async fn recover(&self) -> Result<(), Error> {
        self.faults.set(|_| Fault::Deliver);
        self.until(|locks| !at_risk(locks, &self.key), "does not recover").await
    }

    /// The rival takes over, as an operator would let it; returns when the elector under test has been told to stop.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotHeld`] if it does not lead.
    ///
    /// # Cancel safety
    ///
    /// What was begun goes on.
    pub async fn depose(&self) -> Result<(), Error> {
        self.must_lead()?;
        self.faults.set(|_| Fault::Deliver);
        let mut crown = self.crown.lock().await;
        self.rival.force_release(self.key.clone()).await?;
        *crown = Some(self.rival.acquire(self.key.clone()).wait_up_to(PATIENCE).await?);
        self.until(|locks| !leads(locks, &self.key), "goes on leading").await
    }

    /// From now on its store answers nothing: at the deadline it is deposed by its own clock.
    /// [`recover`](Self::recover) or [`elect`](Self::elect) end that.
    pub fn hang(&self) {
        self.faults.set(|_| Fault::LoseRequest);
    }

    fn must_lead(&self) -> Result<(), Error> {
        if leads(&self.locks, &self.key) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::NotHeld, format!("the elector for {} does not lead: elect it first", self.key)))
    }

    async fn until(&self, seen: impl Fn(&LockClient) -> bool + Send + Sync, what: &str) -> Result<(), Error> {
        let waited = tokio::time::timeout(PATIENCE, async {
            while !seen(&self.locks) {
                tokio::time::sleep(LOOK).await;
            }
        });
        waited.await.map_err(|_| {
            Error::new(
                ErrorKind::WaitOver,
                format!("the elector for {} {what}, within an hour of simulated time", self.key),
            )
        })
    }
}

fn leads(locks: &LockClient, key: &Key) -> bool {
    locks.held().iter().any(|held| held.key == *key)
}

fn at_risk(locks: &LockClient, key: &Key) -> bool {
    locks.held().iter().any(|held| held.key == *key && held.is_at_risk)
}
