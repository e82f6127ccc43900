//! The pure protocol of dynamo-elector, included by path, under tables, properties, a seeded
//! simulator and mutants. Builds in seconds: no SDK, no runtime.

#[allow(dead_code, unused_imports, reason = "the drivers that use all of it live in the published crate")]
#[path = "../../src/protocol/mod.rs"]
mod protocol;
#[allow(dead_code, unreachable_pub, reason = "public in the published crate")]
#[path = "../../src/timing.rs"]
mod timing;

pub mod cli;
mod comparison;
#[cfg(test)]
mod deadline;
#[cfg(test)]
mod events;
#[cfg(test)]
#[path = "../../src/fuzz.rs"]
mod fuzz;
mod model;
mod mutants;
#[cfg(test)]
mod properties;
mod simulator;
#[cfg(test)]
mod timing_table;
#[cfg(test)]
mod transitions;

/// The part of a timing that a holder needs; as in the lock layer.
fn terms_of(timing: timing::Timing) -> protocol::Terms {
    protocol::Terms {
        lease: timing.lease(),
        validity: timing.validity(),
        heartbeat: timing.heartbeat(),
        renewal: protocol::Renewal::Scheduled,
        hard_limit: timing.hard_limit(),
    }
}
