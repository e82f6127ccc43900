//! An exhaustive check of the protocol within small bounds: every order of what may happen, not a sample of it.
//!
//! The machines in a state are the real ones, driven as the lock layer drives them. True time goes from one instant
//! at which a clock says something to the next, so that the worst case of the theorem is met exactly: messages may
//! take no time at all, or any time.

mod bounds;
mod driver;
mod properties;
mod report;
mod state;
mod store;
mod world;

#[allow(unused_imports, reason = "what a caller may want to vary, and what it gets")]
pub(crate) use self::{
    bounds::{Bounds, Faults, Start, Validity},
    report::{Found, Kill, Report, check, mutants},
};

#[cfg(test)]
mod tests;
