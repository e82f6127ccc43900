//! store wip
