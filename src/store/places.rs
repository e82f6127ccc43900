//! Places for requests under way. When all are taken, whoever must be done soonest gets the next one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::protocol::Moment;

/// Some places, and those who wait for one.
#[derive(Debug, Clone)]
pub(super) struct Places {
    queue: Arc<Mutex<Queue>>,
}

#[derive(Debug)]
struct Queue {
    free: usize,
    arrivals: u64,
    /// By when each must be done, then in the order in which they came.
    waiting: BTreeMap<(Moment, u64), oneshot::Sender<Place>>,
}

/// One place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    /// Only `None` while it is being passed on.
    places: Option<Places>,
}

impl Places {
    pub(super) fn new(count: usize) -> Self {
        Self { queue: Arc::new(Mutex::new(Queue { free: count, arrivals: 0, waiting: BTreeMap::new() })) }
    }

    /// Waits for a place.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it has taken no place.
    pub(super) async fn take(&self, by: Moment) -> Place {
        let turn = {
            let mut queue = self.lock();
            if queue.free > 0 {
                queue.free -= 1;
                return self.place();
            }
            let (sender, turn) = oneshot::channel();
            queue.arrivals += 1;
            let arrival = queue.arrivals;
            queue.waiting.insert((by, arrival), sender);
            turn
        };
        match turn.await {
            Ok(place) => place,
            // Nobody drops a sender that waits.
            Err(_) => std::future::pending().await,
        }
    }

    fn place(&self) -> Place {
        Place { places: Some(self.clone()) }
    }

    /// Gives a place to whoever is next, or keeps it.
    fn pass_on(self) {
        let mut next = self.place();
        loop {
            let waiting = {
                let mut queue = self.lock();
                let first = queue.waiting.pop_first();
                if first.is_none() {
                    queue.free += 1;
                }
                first
            };
            let Some((_, sender)) = waiting else {
                next.places = None;
                return;
            };
            match sender.send(next) {
                Ok(()) => return,
                // It waits no more.
                Err(place) => next = place,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(places) = self.places.take() {
            places.pass_on();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn at(nanos: u64) -> Moment {
        Moment::from_nanos(nanos)
    }

    #[test]
    fn whoever_must_be_done_soonest_is_next_and_then_whoever_came_first() {
        let places = Places::new(1);
        let first = places.take(at(9)).now_or_never().expect("it is free");
        let mut waiting: Vec<_> = [30, 10, 20, 10].into_iter().map(|by| Box::pin(places.take(at(by)))).collect();
        assert!(waiting.iter_mut().all(|turn| turn.now_or_never().is_none()));
        let mut holder = first;
        for expected in [1, 3, 2, 0] {
            drop(holder);
            let given: Vec<_> = waiting.iter_mut().map(|turn| turn.now_or_never()).collect();
            let served: Vec<usize> = (0..4).filter(|index| given[*index].is_some()).collect();
            assert_eq!(served, [expected]);
            holder = given.into_iter().flatten().next().expect("it was just seen");
            waiting[expected] = Box::pin(places.take(Moment::NEVER));
            assert!(waiting[expected].as_mut().now_or_never().is_none());
        }
    }

    #[test]
    fn whoever_waits_no_more_is_passed_over_and_takes_no_place() {
        let places = Places::new(2);
        let [one, two] = [1, 2].map(|by| places.take(at(by)).now_or_never().expect("both are free"));
        let (mut gone, mut given, mut stays) =
            (Box::pin(places.take(at(1))), Box::pin(places.take(at(2))), Box::pin(places.take(at(3))));
        for turn in [&mut gone, &mut given, &mut stays] {
            assert!(turn.now_or_never().is_none());
        }
        drop(gone);
        drop(one);
        // It has been given a place and is dropped before it has looked.
        drop(given);
        let three = stays.now_or_never().expect("the place was passed on");
        assert!(places.take(at(0)).now_or_never().is_none(), "both are taken");
        drop((two, three));
        let all = [1, 2].map(|by| places.take(at(by)).now_or_never());
        assert!(all.iter().all(Option::is_some), "and both come back");
    }
}
