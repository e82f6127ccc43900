//! embedded wip
