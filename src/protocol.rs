mod message;
pub(crate) use message::*;
