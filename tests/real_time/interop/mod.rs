//! Beside other clients on one table: each direction, each dialect, and a contest.
//!
//! The Go client is played by its captured requests, in every `cargo test`. The Java client runs for real where it was
//! built (`just interop` does that), and any other client by `INTEROP_PEER` (see `tests/interop/PROTOCOL.md`).

mod contest;
mod go;
mod journal;
mod ours;
mod peer;
mod scenarios;

use std::time::Duration;

use peer::Kind;

/// The process behind a peer of ours and behind the scripted Go peer. Not a test: [`peer::Peer`] starts it.
#[test]
#[ignore = "the process that other tests start as their peer"]
fn peer_process() {
    peer::main();
}

macro_rules! beside {
    ($peer:ident: $kind:expr $(, #[$attribute:meta])*) => {
        mod $peer {
            use super::*;

            beside!(@tests $kind, [$(#[$attribute])*]
                its_lock_is_read_waited_for_and_acquired_when_released: its_lock_is_read_waited_for_and_acquired_when_released,
                it_waits_for_ours_and_acquires_it_when_released: it_waits_for_ours_and_acquires_it_when_released,
                it_is_taken_over_after_it_died: it_is_taken_over_after_it_died,
                a_try_each_second_takes_it_over: a_try_each_second_takes_it_over,
                it_takes_over_after_ours_died: it_takes_over_after_ours_died,
                what_it_deletes_is_free_at_once: what_it_deletes_is_free_at_once,
                an_announced_end_is_harmless_to_it: an_announced_end_is_harmless_to_it,
                it_notices_that_it_was_taken_over: it_notices_that_it_was_taken_over,
                an_operator_takes_its_lock_away: an_operator_takes_its_lock_away,
                data_and_attributes_survive_both_ways: data_and_attributes_survive_both_ways,
                tokens_rise_across_its_terms: tokens_rise_across_its_terms,
            );

            #[test]
            #[ignore = "takes a minute: `just interop` runs it"]
            fn contest_of_a_minute() {
                contest::contest(&$kind, Duration::from_secs(60));
            }
        }
    };
    (@tests $kind:expr, $attributes:tt $($name:ident: $scenario:ident,)+) => {
        $(beside!(@test $kind, $attributes $name: $scenario);)+
    };
    (@test $kind:expr, [$($attribute:tt)*] $name:ident: $scenario:ident) => {
        #[test]
        $($attribute)*
        fn $name() {
            scenarios::$scenario(&$kind);
        }
    };
}

beside!(scripted_go: Kind::ScriptedGo);
beside!(java: Kind::java(), #[ignore = "needs the Java peer: `just interop` builds and runs it"]);
beside!(plugged_in: Kind::plugged_in(), #[ignore = "needs INTEROP_PEER, the command of a peer"]);

/// The lease that dynamolock's README shows, and a try each second.
#[test]
#[ignore = "takes half a minute: `just interop` runs it"]
fn a_go_holder_with_a_lease_of_20_seconds_is_taken_over_by_a_try_each_second() {
    scenarios::try_takes_over(&Kind::ScriptedGo, Duration::from_secs(20), Duration::from_secs(1));
}

/// The Java client's own try, for real, beside ours: it takes a dead lock over too, and never one that is renewed.
#[test]
#[ignore = "needs the Java peer: `just interop` builds and runs it"]
fn the_try_of_the_java_client_takes_a_dead_lock_over_too() {
    assert!(scenarios::own_try_takes_over(&Kind::java()), "it remembers what it saw");
}

/// dynamolock's own try never does: it forgets between calls what it saw.
#[test]
fn the_try_of_the_go_client_never_takes_a_dead_lock_over() {
    assert!(!scenarios::own_try_takes_over(&Kind::ScriptedGo));
}
