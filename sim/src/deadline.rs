//! The deadline of a lease in every interleaving of the threads that share it, and in every order that their memory
//! allows: an end on one thread races the reply to a renewal on another (R8).

mod atomic {
    pub(super) use loom::sync::atomic::{AtomicU64, Ordering};
}
#[path = "../../src/lock/deadline.rs"]
mod shared;

use std::panic::catch_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};

use loom::sync::Arc;
use loom::sync::atomic::AtomicBool;
use loom::thread;

use self::shared::Deadline;
use crate::protocol::{Moment, Mutant, run_with};

/// What a deadline is when it is over.
const OVER: Moment = Moment::from_nanos(0);

fn at(nanos: u64) -> Moment {
    Moment::from_nanos(nanos)
}

/// Runs `model` in every interleaving, and tells how many there were.
fn every_interleaving(model: fn()) -> usize {
    let count = std::sync::Arc::new(AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&count);
    loom::model(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    count.load(Ordering::Relaxed)
}

/// The model holds in more than a few interleavings, and breaks in one of them if a renewal stores without looking.
fn holds_and_would_break(name: &str, model: fn()) {
    let count = every_interleaving(model);
    println!("{name}: {count} interleavings");
    assert!(count > 5, "{count} interleavings: is it blind?");
    let broken = catch_unwind(|| run_with(Some(Mutant::EndOverwritten), || every_interleaving(model)));
    assert!(broken.is_err(), "{name}: a renewal that overwrites the end is not noticed");
}

#[test]
fn what_has_ended_is_over_whatever_a_renewal_publishes_meanwhile() {
    holds_and_would_break("an end against a renewal, and a reader", || {
        let deadline = Arc::new(Deadline::new(at(10)));
        let ends = {
            let deadline = Arc::clone(&deadline);
            thread::spawn(move || deadline.end())
        };
        let renews = {
            let deadline = Arc::clone(&deadline);
            thread::spawn(move || deadline.publish(Some(at(20))))
        };
        let (first, second) = (deadline.until(), deadline.until());
        assert!(first != OVER || second == OVER, "it was over, and is held until {second:?}");
        assert!([OVER, at(10), at(20)].contains(&second), "{second:?} was never published");
        ends.join().expect("no panic");
        let lowered = renews.join().expect("no panic");
        assert!(!lowered, "a longer lease wakes nobody");
        assert_eq!(deadline.until(), OVER);
    });
}

/// A forced end takes validity away first and fires the token then.
#[test]
fn whoever_sees_the_token_fired_by_force_finds_it_over() {
    holds_and_would_break("a forced end against a renewal, seen by its work", || {
        let (deadline, token) = (Arc::new(Deadline::new(at(10))), Arc::new(AtomicBool::new(false)));
        let ends = {
            let (deadline, token) = (Arc::clone(&deadline), Arc::clone(&token));
            thread::spawn(move || {
                deadline.end();
                token.store(true, Ordering::Release);
            })
        };
        let renews = {
            let deadline = Arc::clone(&deadline);
            thread::spawn(move || deadline.publish(Some(at(20))))
        };
        if token.load(Ordering::Acquire) {
            assert_eq!(deadline.until(), OVER, "the token has fired");
        }
        ends.join().expect("no panic");
        renews.join().expect("no panic");
    });
}

/// A panic on the keeper ends the lease from whatever thread drops it, while answers still come in: one with a shorter
/// lease, one with a longer.
#[test]
fn answers_one_after_another_do_not_undo_an_end() {
    holds_and_would_break("an end against a shorter and then a longer lease", || {
        let deadline = Arc::new(Deadline::new(at(10)));
        let answers = {
            let deadline = Arc::clone(&deadline);
            thread::spawn(move || [5, 20].map(|nanos| deadline.publish(Some(at(nanos)))))
        };
        let ended = deadline.publish(None);
        let [_, longer] = answers.join().expect("no panic");
        assert!(!ended && !longer, "neither is a shorter lease");
        assert_eq!(deadline.until(), OVER);
    });
}

/// Whoever waits for the deadline hears of every one that comes forward, and the last to be published stands.
#[test]
fn a_shorter_lease_is_told_of_whatever_it_replaces() {
    let count = every_interleaving(|| {
        let deadline = Arc::new(Deadline::new(at(10)));
        let publish = |nanos: u64| {
            let deadline = Arc::clone(&deadline);
            thread::spawn(move || deadline.publish(Some(at(nanos))))
        };
        let (shorter, longer) = (publish(5), publish(20));
        let seen = deadline.until();
        assert!([at(5), at(10), at(20)].contains(&seen), "{seen:?} was never published");
        assert!(shorter.join().expect("no panic"), "five is less than ten and than twenty");
        assert!(!longer.join().expect("no panic"), "twenty is more than five and than ten");
        let last = deadline.until();
        assert!([at(5), at(20)].contains(&last), "{last:?} is not the last one published");
    });
    println!("a shorter against a longer lease: {count} interleavings");
    assert!(count > 5, "{count} interleavings: is it blind?");
}
