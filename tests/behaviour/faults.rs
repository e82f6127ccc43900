//! Faults of the network, the store and the record, under the real elector and the real SDK: at random from a seed, and each
//! by its name. `docs/verification.md` lists all of them.

#![allow(clippy::future_not_send, reason = "a recorder for one thread stays on it")]

mod denied;
mod herd;
mod journal;
mod lost;
mod pair;
mod partitions;
mod random;
mod records;
mod tables;
mod timing;
mod world;
