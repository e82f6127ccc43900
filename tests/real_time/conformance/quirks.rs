//! Where an engine is known to differ from DynamoDB's documentation.

use super::engine::Kind;

/// A known difference. Each is asserted where it shows, so that the day it is gone is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quirk {
    /// `ListTagsOfResource` is not known: tags are accepted and can't be looked at. The crate never asks for them.
    TagsAreNotListed,
    /// A read costs one unit whatever the size of the item. Budgets of large records are to be read on another engine.
    LargeReadsCostOneUnit,
    /// An attribute that one expression both sets and removes is no ValidationException. The crate sends no such expression.
    OverlapIsNotRefused,
}

impl Quirk {
    pub(super) const fn engines(self) -> &'static [Kind] {
        match self {
            Self::TagsAreNotListed => &[Kind::Embedded, Kind::Http],
            Self::LargeReadsCostOneUnit | Self::OverlapIsNotRefused => &[Kind::Ministack],
        }
    }
}
