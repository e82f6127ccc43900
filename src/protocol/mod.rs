//! The election protocol. Pure: time is an argument; there is no async, no network, no clock, no
//! randomness here. Start reading at this page.
//!
//! ```text
//!             Observation (what is known of a record)          Holder (one acquisition)
//!   answers ──▶ observe ──▶ verdict ──▶ Candidate::next ──▶ Claiming ──applied──▶ Holding ──resign──▶ Draining
//!                              │  Read / Wait │                │ refused            │ deadline, taken over,   │
//!                              ▼              ▼                ▼                    ▼ gone, released           ▼ work ended
//!                          Blocked        (driver)          Refused               Lost ──work ended──▶ Releasing ──▶ Ended
//! ```
//!
//! Invariants, held by tests of the simulator, I8 by tests of the crate:
//!
//! - I1 at most one valid holder, at any take-over and at any acknowledgement
//! - I2 fencing tokens of successful acquisitions strictly increase
//! - I3 no version recurs in a record that is never deleted
//! - I4 a fenced resource never accepts a lower token after a higher one
//! - I5 the token is cancelled before its release is sent, and no release is sent while work runs
//! - I6 after faults stop there is a holder within the liveness bound
//! - I7 requests stay within their budget
//! - I8 nothing of ours runs after shutdown
//! - I9 nothing here panics
//!
//! Two clock rules are two types: [`HeldUntil`] is made only from a send time, [`FirstSeen`] only
//! from a response time.

mod candidate;
mod follower;
mod holder;
mod memory;
mod message;
pub(crate) mod mutant;
mod pace;

pub(crate) use candidate::*;
pub(crate) use follower::*;
pub(crate) use holder::*;
pub(crate) use message::*;
#[cfg(feature = "mutants")]
pub(crate) use mutant::{Mutant, on, run_with};
pub(crate) use pace::{MOST_PAUSE, Plan, all_look_within};
