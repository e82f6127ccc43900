//! Transitions as streams.

use futures::{Stream, stream};
use tokio::sync::broadcast::{Receiver, error::RecvError};

use crate::status::Transition;
use crate::telemetry::Name;

/// Those of one election: ends after the last one.
pub(super) fn of_one(
    receiver: Receiver<Transition>,
    stopped: bool,
) -> impl Stream<Item = Transition> + Send + Unpin + 'static {
    Box::pin(stream::unfold((receiver, stopped), |(mut receiver, stopped)| async move {
        if stopped {
            return None;
        }
        let (transition, last) = match receiver.recv().await {
            Ok(transition) => {
                let last = matches!(transition, Transition::Stopped { .. });
                (transition, last)
            }
            Err(RecvError::Lagged(missed)) => (Transition::Missed(missed), false),
            Err(RecvError::Closed) => return None,
        };
        Some((transition, (receiver, last)))
    }))
}

/// Those of a group, each with the name of its election; a gap has none, since it may be anybody's.
pub(super) fn of_all(
    receiver: Receiver<(Name, Transition)>,
) -> impl Stream<Item = (Option<Name>, Transition)> + Send + Unpin + 'static {
    Box::pin(stream::unfold(receiver, |mut receiver| async move {
        let told = match receiver.recv().await {
            Ok((name, transition)) => (Some(name), transition),
            Err(RecvError::Lagged(missed)) => (None, Transition::Missed(missed)),
            Err(RecvError::Closed) => return None,
        };
        Some((told, receiver))
    }))
}
