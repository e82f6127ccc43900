//! Leader election on DynamoDB for long-running services: a leader stops before another can start.

mod clock;
mod elector;
#[cfg(feature = "embedded")]
mod embedded;
mod error;
mod leadership;
mod lock;
mod protocol;
mod status;
mod store;
mod telemetry;
mod timing;

pub use elector::{Elector, ElectorBuilder};
#[cfg(feature = "embedded")]
pub use embedded::Embedded;
#[cfg(feature = "test-util")]
pub use embedded::{Call, Fault, Faults};
pub use error::{BoxError, Error, ErrorKind};
pub use leadership::{Leadership, LeadershipView};
pub use lock::{Acquire, EndReason, Lock, LockClient, LockClientBuilder, ReleaseOutcome, ShutdownReport};
pub use status::{LeaderInfo, Role, Status, Transition, Trouble};
pub use store::{DurationText, LockRecord};
pub use timing::{Timing, TimingBuilder, TimingError};
