//! What the crate relies on of DynamoDB, asked of every engine alike.
//!
//! Each case runs on each engine: on the embedded one and on the same one over HTTP in every `cargo test`, on MiniStack and on
//! DynamoDB itself by `.ci/conformance ministack` and `.ci/conformance aws`. What is asserted is DynamoDB's documented
//! behaviour; where an engine is known to differ, [`quirks::Quirk`] says so and the difference is asserted instead.

mod engine;
mod listing;
mod locks;
mod quirks;
mod reads;
mod table;
mod tables;
mod transactions;
mod writes;

use std::panic::{AssertUnwindSafe, resume_unwind};

use engine::{Engine, Kind};
use futures::FutureExt;

/// Runs a case, and deletes its tables whatever came of it.
fn run(kind: Kind, case: impl AsyncFnOnce(&Engine)) {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let engine = Engine::open(kind).await;
        let outcome = AssertUnwindSafe(case(&engine)).catch_unwind().await;
        engine.clean_up().await;
        if let Err(panic) = outcome {
            resume_unwind(panic);
        }
    });
}

/// Each case once an engine. A case that is forgotten here is unused code, which is refused.
macro_rules! suite {
    ($($module:ident { $($case:ident,)+ })+) => {
        suite!(@engine embedded Embedded [] $($module { $($case,)+ })+);
        suite!(@engine http Http [] $($module { $($case,)+ })+);
        suite!(@engine ministack Ministack
            [#[ignore = "needs MiniStack: .ci/conformance ministack"]] $($module { $($case,)+ })+);
        suite!(@engine aws Aws [#[ignore = "needs an AWS account: .ci/conformance aws"]] $($module { $($case,)+ })+);
    };
    (@engine $name:ident $kind:ident $ignored:tt $($module:ident { $($case:ident,)+ })+) => {
        mod $name {
            $($(suite!(@case $kind $ignored $module $case);)+)+
        }
    };
    (@case $kind:ident [$($ignored:tt)*] $module:ident $case:ident) => {
        #[test]
        $($ignored)*
        fn $case() {
            super::run(super::Kind::$kind, super::$module::$case);
        }
    };
}

suite! {
    writes {
        a_creation_applies_once_and_its_repetition_is_recognised,
        in_takes_one_to_four_operands,
        a_renewal_is_refused_once_the_record_is_marked_released,
        retiring_takes_the_version_that_was_seen_and_the_mark,
        a_repair_compares_versions_of_every_type,
        a_seal_compares_numbers_as_numbers,
        an_update_sets_removes_and_keeps_the_rest,
        a_refused_write_of_an_absent_item_shows_none_and_creates_none,
        a_delete_takes_the_version_it_names,
        placeholders_must_be_used_and_must_be_given,
    }
    reads {
        a_read_shows_the_item_or_none,
        a_projection_shows_what_it_names,
        reads_cost_by_size_and_consistency,
        writes_cost_by_size,
    }
    listing {
        a_scan_shows_every_item_once,
        a_query_shows_one_partition_in_the_order_of_its_sort_keys,
        a_page_ends_at_a_megabyte,
    }
    tables {
        a_table_on_demand_is_described_as_it_was_made,
        a_provisioned_table_with_a_sort_key_and_tags_is_described_as_it_was_made,
        a_protected_table_is_not_deleted,
        the_attribute_that_expires_items_is_told,
        a_missing_table_is_said_by_every_operation,
        a_key_that_is_not_the_tables_is_refused,
        an_item_beyond_400_kilobytes_is_refused,
    }
    transactions {
        a_transaction_holds_while_its_token_is_the_sealed_one,
        a_fenced_item_refuses_a_lower_token,
    }
    locks {
        a_lock_is_acquired_renewed_released_and_acquired_again,
        a_dead_holder_is_taken_over_after_its_lease,
        locks_are_listed_and_deleted_on_release,
        a_fence_record_and_an_operator_do_their_work,
    }
}
