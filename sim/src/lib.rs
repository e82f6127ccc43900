//! The pure protocol of dynamo-elector, included by path, under tables, properties, a seeded
//! simulator and mutants. Builds in seconds: no SDK, no runtime.

#[cfg(test)]
#[allow(dead_code, unreachable_pub, reason = "public in the published crate")]
#[path = "../../src/cost.rs"]
mod cost;
#[allow(dead_code, unused_imports, reason = "the drivers that use all of it live in the published crate")]
#[path = "../../src/protocol/mod.rs"]
mod protocol;
#[allow(dead_code, unreachable_pub, reason = "public in the published crate")]
#[path = "../../src/timing.rs"]
mod timing;

pub mod cli;
mod clock;
mod comparison;
#[cfg(test)]
mod deadline;
#[cfg(test)]
mod events;
#[cfg(test)]
#[path = "../../src/fuzz.rs"]
mod fuzz;
mod lock_layer;
mod model;
mod mutants;
#[cfg(test)]
mod properties;
mod record;
mod simulator;
#[cfg(test)]
mod timing_table;
#[cfg(test)]
mod transitions;
