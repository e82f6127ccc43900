//! wip
mod error;
mod protocol;
mod store;
mod timing;
#[cfg(feature = "embedded")]
mod embedded;
pub use error::{BoxError, Error, ErrorKind};
pub use timing::{Timing, TimingBuilder, TimingError};
