//! The tokio runtime of whoever calls.

use tokio::runtime::Handle;

use crate::error::{Error, ErrorKind};

/// The current runtime; outside of one an error with this message, which says what to do.
pub(crate) fn current_runtime(message: &str) -> Result<Handle, Error> {
    Handle::try_current().map_err(|error| Error::new(ErrorKind::InvalidInput, message).with_source(error))
}
