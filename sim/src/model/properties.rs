//! What must hold in every state, and what must be seen in some.

use stateright::Property;

use super::state::{Event, Rule, State};
use super::world::Election;

pub(super) const EXCLUSION: &str = "I1: no acquisition is applied while the work of another may still run";
pub(super) const ONE_HOLDER: &str = "I1: at most one node takes itself for the holder";
pub(super) const TOKENS: &str = "I2: fencing tokens rise";
pub(super) const RECURRENCE: &str = "I3: no version comes back";
pub(super) const FENCING: &str = "I4: a resource accepts nothing that is older than what it has accepted";
pub(super) const RELEASE: &str = "I5: no release is sent while work runs";
pub(super) const OWN_WRITES: &str = "R3: no write is refused because of the writes before it of the same term";
pub(super) const OWN_EVIDENCE: &str = "R4: nobody gives up on a record of its own";
pub(super) const REVIVAL: &str = "R8: what is over is never revived";

fn at_most_one_holder(model: &Election, state: &State) -> bool {
    let valid =
        |(index, node): &(usize, &std::sync::Arc<super::state::Node>)| node.is_valid(model.local(*index, state.now));
    state.nodes.iter().enumerate().filter(valid).count() <= 1
}

pub(super) fn all() -> Vec<Property<Election>> {
    vec![
        Property::always(EXCLUSION, |_, state: &State| state.broken != Some(Rule::Exclusion)),
        Property::always(ONE_HOLDER, at_most_one_holder),
        Property::always(TOKENS, |_, state: &State| state.broken != Some(Rule::Tokens)),
        Property::always(RECURRENCE, |_, state: &State| state.broken != Some(Rule::Recurrence)),
        Property::always(FENCING, |_, state: &State| state.broken != Some(Rule::Fencing)),
        Property::always(RELEASE, |_, state: &State| state.broken != Some(Rule::ReleaseUnderWork)),
        Property::always(OWN_WRITES, |_, state: &State| state.broken != Some(Rule::OwnWrites)),
        Property::always(OWN_EVIDENCE, |_, state: &State| state.broken != Some(Rule::OwnEvidence)),
        Property::always(REVIVAL, |_, state: &State| state.broken != Some(Rule::Revival)),
        Property::sometimes("a lease that ran out is taken over", |_, state: &State| state.shows(Event::TakenOver)),
        Property::sometimes("a holder loses its lease by its own clock", |_, state: &State| {
            state.shows(Event::LostByDeadline)
        }),
        Property::sometimes("a write follows one of its own whose reply was lost", |_, state: &State| {
            state.shows(Event::Adopted)
        }),
        Property::sometimes("a late or repeated write is refused", |_, state: &State| state.shows(Event::LateRefused)),
        Property::sometimes("a late or repeated write is applied", |_, state: &State| state.shows(Event::LateApplied)),
        Property::sometimes("a released record is claimed", |_, state: &State| state.shows(Event::ClaimedAfterRelease)),
        Property::sometimes("a leader that crashed is followed by another", |_, state: &State| {
            state.leader_crashed && state.shows(Event::HandedOut)
        }),
        Property::sometimes("the record settles what became of writes without an answer", |_, state: &State| {
            state.shows(Event::Settled)
        }),
        Property::sometimes("an effect of an earlier leader is fenced off", |_, state: &State| {
            state.shows(Event::FencedOff)
        }),
    ]
}
