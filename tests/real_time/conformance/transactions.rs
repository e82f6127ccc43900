//! The fence record in a transaction, and fenced writes of a user's own item.

use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{ConditionCheck, Put, TransactWriteItem};

use super::engine::Engine;
use super::table::{Answer, Change, Table, item, n, s};

/// Writes `state` in one transaction with a check that `token` is still the one in the fence record.
async fn fenced(table: &Table<'_>, token: u64, state: &str) -> Result<(), Vec<String>> {
    let check = ConditionCheck::builder().table_name(&table.name).key("key", s("job#fence"));
    let check = check.condition_expression("#token = :token").expression_attribute_names("#token", "fencingToken");
    let check = check.expression_attribute_values(":token", n(token)).build().unwrap();
    let put = Put::builder().table_name(&table.name).item("key", s("state")).item("is", s(state)).build().unwrap();
    let transaction = table.engine.client.transact_write_items();
    let transaction = transaction
        .transact_items(TransactWriteItem::builder().condition_check(check).build())
        .transact_items(TransactWriteItem::builder().put(put).build());
    match transaction.send().await {
        Ok(_) => Ok(()),
        Err(error) => match error.as_service_error() {
            Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
                let reasons = cancelled.cancellation_reasons().iter();
                Err(reasons.map(|reason| reason.code().unwrap_or("None").to_owned()).collect())
            }
            _ => panic!("{error:?}"),
        },
    }
}

pub(super) async fn a_transaction_holds_while_its_token_is_the_sealed_one(engine: &Engine) {
    let table = engine.table().await;
    let failed = Err(vec!["ConditionalCheckFailed".to_owned(), "None".to_owned()]);
    assert_eq!(fenced(&table, 1, "early").await, failed, "no fence record");
    assert_eq!(table.read("state").await, None);
    table.put(&[("key", s("job#fence")), ("fencingToken", n(7))]).await;
    fenced(&table, 7, "written").await.unwrap();
    for token in [6, 8] {
        assert_eq!(fenced(&table, token, "overwritten").await, failed, "{token}");
    }
    assert_eq!(table.read("state").await, Some(item(&[("key", s("state")), ("is", s("written"))])), "all or nothing");
    assert_eq!(table.read("job#fence").await.unwrap().len(), 2, "a check changes nothing");
}

/// The other way to fence, without a second item.
pub(super) async fn a_fenced_item_refuses_a_lower_token(engine: &Engine) {
    let table = engine.table().await;
    // Alone, and beside what a user asks for, in parentheses of the user's own or not.
    for (key, condition) in [
        ("alone", "attribute_not_exists(#token) OR #token <= :token"),
        (
            "beside",
            "(attribute_not_exists(#owner) OR #owner = :owner) AND (attribute_not_exists(#token) OR #token <= :token)",
        ),
        (
            "parentheses",
            "((attribute_not_exists(#owner)) OR (#owner = :owner)) AND (attribute_not_exists(#token) OR #token <= :token)",
        ),
    ] {
        for (token, applies) in [(9, true), (9, true), (10, true), (9, false), (100, true)] {
            let values = vec![(":token", n(token)), (":owner", s("me"))];
            let write = Change { update: "SET #token = :token, #owner = :owner", condition, values };
            let answer = table.apply(key, &write).await;
            assert_eq!(answer.applied(), applies, "{key}, {token}: {answer:?}");
            assert!(!matches!(answer, Answer::Refused(None)), "what stood in the way is shown");
        }
    }
}
