#![doc = include_str!("../README.md")]
//!
//! # Where to start
//!
//! - [`guide`]: five ways to use it, each a program that runs.
//! - [`Elector::run`]: work that runs while this process leads. [`Elector::campaign`]: the [`Leadership`] itself.
//! - [`Service`], [`Elector::start`]: callbacks in the background. [`Observer`]: who leads, seen from outside. [`Elections`]: many at once.
//! - [`Fence`]: writes that a deposed leader cannot make.
//! - [`LockClient::acquire`]: locks, one record each, without an election around them.
//! - [`Timing`]: how long a lease lasts, and the inequalities that keep it safe.
//! - [`Workload`]: what elections cost, before the bill comes.
//! - [`Status`], [`Transition`]: what is known of an election, and every change of it.
//! - [`Error`], [`ErrorKind`]: what went wrong, and what to do.

#[cfg(doc)]
#[doc = include_str!("../docs/guide.md")]
pub mod guide {}

#[cfg(doctest)]
#[doc = include_str!("../docs/capacity.md")]
mod capacity {}

mod clock;
mod cost;
mod elector;
#[cfg(feature = "embedded")]
mod embedded;
mod ending;
mod error;
#[cfg(test)]
mod fuzz;
mod lock;
mod protocol;
mod status;
mod store;
mod telemetry;
#[cfg(feature = "test-util")]
mod testing;
mod timing;

pub use cost::{Usage, Workload};
pub use elector::{
    Elections, Elector, ElectorBuilder, Fence, FenceCondition, FencedWrite, Health, Leadership, LeadershipView,
    Observer, ObserverBuilder, Running, Service, TermEnded, WorkResult, termination,
};
#[cfg(feature = "embedded")]
pub use embedded::Embedded;
#[cfg(feature = "test-util")]
pub use embedded::{Call, Fault, Faults};
pub use ending::{EndReason, ReleaseOutcome};
pub use error::{BoxError, Error, ErrorKind};
pub use lock::{
    Acquire, Fencing, Heartbeat, HeldLock, Lock, LockClient, LockClientBuilder, LockTable, Release, ShutdownReport,
};
pub use status::{LeaderInfo, Role, Status, StopReason, Transition, Trouble};
pub use store::{DurationText, Key, LockRecord, TableOptions, TableReport};
#[cfg(feature = "test-util")]
pub use testing::ScriptedElection;
pub use timing::{Timing, TimingBuilder, TimingError};
