//! wip
#[cfg(feature = "embedded")]
mod embedded;
mod error;
mod protocol;
mod store;
mod timing;
pub use error::{BoxError, Error, ErrorKind};
pub use timing::{Timing, TimingBuilder, TimingError};
