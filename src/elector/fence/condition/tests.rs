#![allow(clippy::unwrap_used, reason = "a test that can not go on fails")]

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::BehaviorVersion;
use aws_sdk_dynamodb::types::{
    AttributeAction, AttributeValueUpdate, ConditionalOperator, ExpectedAttributeValue, Put, Update,
};
use proptest::prelude::*;

use super::*;

/// Sends nothing: it builds.
fn client() -> Client {
    Client::from_conf(aws_sdk_dynamodb::Config::builder().behavior_version(BehaviorVersion::latest()).build())
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.into())
}

fn seven() -> AttributeValue {
    AttributeValue::N("7".into())
}

fn refused<W: FencedWrite + std::fmt::Debug>(condition: &FenceCondition, write: W) -> String {
    let error = condition.apply_to(write).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    error.to_string()
}

#[test]
fn an_update_is_extended_and_otherwise_unchanged() {
    let write = Update::builder()
        .table_name("schedule")
        .key("id", text("one"))
        .update_expression("REMOVE #old SET opens = :opens")
        .condition_expression("opens < :opens OR attribute_not_exists(opens)")
        .expression_attribute_names("#old", "set")
        .expression_attribute_values(":opens", text("3"));
    let update = FenceCondition::new(7).apply_to(write).unwrap().build().unwrap();
    assert_eq!(update.update_expression(), "REMOVE #old SET #electorFenceSet = :electorFenceSet, opens = :opens");
    assert_eq!(
        update.condition_expression().unwrap(),
        "(opens < :opens OR attribute_not_exists(opens)) AND \
         (attribute_not_exists(#electorFence) OR #electorFence <= :electorFence)"
    );
    let names = update.expression_attribute_names().unwrap();
    let expected = [("#old", "set"), ("#electorFence", "fencingToken"), ("#electorFenceSet", "fencingToken")];
    assert_eq!(*names, expected.map(|(name, is)| (name.to_owned(), is.to_owned())).into());
    let values = update.expression_attribute_values().unwrap();
    let expected = [(":opens", text("3")), (":electorFence", seven()), (":electorFenceSet", seven())];
    assert_eq!(*values, expected.map(|(name, is)| (name.to_owned(), is)).into());
    assert_eq!((update.table_name(), update.key().len()), ("schedule", 1));
}

#[test]
fn a_put_carries_the_number_in_its_item() {
    let write = Put::builder().table_name("schedule").item("id", text("one")).item("opens", text("3"));
    let put = FenceCondition::new(7).attribute("term").apply_to(write).unwrap().build().unwrap();
    let condition = "attribute_not_exists(#electorFence) OR #electorFence <= :electorFence";
    assert_eq!(put.condition_expression(), Some(condition));
    let item = [("id", text("one")), ("opens", text("3")), ("term", seven())];
    assert_eq!(*put.item(), item.map(|(name, is)| (name.to_owned(), is)).into());
    assert_eq!(put.expression_attribute_names().unwrap()["#electorFence"], "term");
    assert_eq!(put.expression_attribute_values().unwrap().len(), 1, "what is unused would be refused");
}

#[test]
fn a_write_without_expressions_gets_those_of_the_fence_alone() {
    let update = FenceCondition::new(7).apply_to(client().update_item().key("id", text("one"))).unwrap();
    assert_eq!(update.get_update_expression().as_deref(), Some("SET #electorFenceSet = :electorFenceSet"));
    let condition = "attribute_not_exists(#electorFence) OR #electorFence <= :electorFence";
    assert_eq!(update.get_condition_expression().as_deref(), Some(condition));
    let put = FenceCondition::new(7).apply_to(client().put_item().item("id", text("one"))).unwrap();
    assert_eq!(put.get_condition_expression().as_deref(), Some(condition));
    assert_eq!(put.get_item().as_ref().unwrap()["fencingToken"], seven());
}

#[test]
fn legacy_parameters_are_refused_by_name() {
    let fence = FenceCondition::new(7);
    let expected = || ExpectedAttributeValue::builder().exists(false).build();
    let changed = AttributeValueUpdate::builder().action(AttributeAction::Put).value(text("3")).build();
    for (message, parameter) in [
        (refused(&fence, client().update_item().expected("opens", expected())), "Expected"),
        (refused(&fence, client().update_item().attribute_updates("opens", changed)), "AttributeUpdates"),
        (refused(&fence, client().update_item().conditional_operator(ConditionalOperator::Or)), "ConditionalOperator"),
        (refused(&fence, client().put_item().expected("opens", expected())), "Expected"),
        (refused(&fence, client().put_item().conditional_operator(ConditionalOperator::Or)), "ConditionalOperator"),
    ] {
        assert!(message.contains(&format!("{parameter},")), "{message}");
    }
}

#[test]
fn what_has_the_attribute_already_is_refused() {
    let fence = FenceCondition::new(7);
    for message in [
        refused(&fence, client().put_item().item("fencingToken", seven())),
        refused(&fence, Put::builder().item("fencingToken", seven())),
        refused(&fence.clone().attribute("id"), client().update_item().key("id", text("one"))),
        refused(&fence.clone().attribute("id"), Update::builder().key("id", text("one"))),
        refused(&fence, client().update_item().update_expression("SET fencingToken = :t")),
        refused(&fence, Update::builder().update_expression("SET a = :a remove fencingToken.b")),
        refused(
            &fence,
            client().update_item().update_expression("add #t :one").expression_attribute_names("#t", "fencingToken"),
        ),
        // A second fence on the same write.
        refused(&fence, fence.apply_to(client().update_item()).unwrap()),
        refused(&fence, fence.apply_to(client().put_item()).unwrap()),
    ] {
        assert!(message.contains("already") && message.contains("attribute(…)"), "{message}");
    }
    let reads =
        client().update_item().update_expression("SET seen = fencingToken, a = if_not_exists(fencingToken, :z)");
    assert!(fence.apply_to(reads).is_ok(), "read, not changed");
    let elsewhere = client().update_item().update_expression("SET fencingTokens = :a, b.fencingToken = :b");
    assert!(fence.apply_to(elsewhere).is_ok());
}

#[test]
fn what_would_break_out_of_the_condition_is_refused() {
    let fence = FenceCondition::new(7);
    let message =
        refused(&fence, client().put_item().condition_expression("attribute_exists(a)) OR (attribute_exists(b)"));
    assert!(message.contains("parentheses"), "{message}");
    assert!(refused(&fence.attribute(""), client().put_item()).contains("no name"));
}

proptest! {
    /// However a user calls things: theirs keep their meaning, and ours is called like none of them.
    #[test]
    fn placeholders_never_clash(words in prop::collection::btree_set("electorFence(Set)?[2-4]?", 0..8), defined: bool) {
        let removed: Vec<String> = words.iter().map(|word| format!("#{word}")).collect();
        let mut write = Update::builder().table_name("schedule").key("id", text("one"));
        write = write.update_expression(format!("REMOVE a{}", removed.iter().map(|name| format!(", {name}")).collect::<String>()));
        write = write.condition_expression(words.iter().map(|word| format!("a = :{word}")).collect::<Vec<_>>().join(" OR "));
        // They may be defined later, too: then only the expressions show them.
        for word in words.iter().filter(|_| defined) {
            write = write.expression_attribute_names(format!("#{word}"), "x");
            write = write.expression_attribute_values(format!(":{word}"), text("x"));
        }
        let update = FenceCondition::new(7).apply_to(write).unwrap().build().unwrap();
        let (names, values) = (update.expression_attribute_names().unwrap(), update.expression_attribute_values().unwrap());
        let ours: Vec<&String> = names.iter().filter(|(_, is)| *is == "fencingToken").map(|(name, _)| name).collect();
        prop_assert_eq!(ours.len(), 2);
        prop_assert!(ours.iter().all(|name| !removed.contains(name)), "{:?}", ours);
        prop_assert_eq!(values.values().filter(|value| **value == seven()).count(), 2);
        if defined {
            for word in &words {
                prop_assert_eq!(&names[&format!("#{word}")], "x");
                prop_assert_eq!(&values[&format!(":{word}")], &text("x"));
            }
        }
    }
}
