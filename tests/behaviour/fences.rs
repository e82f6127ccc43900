//! What a fence refuses and what it lets through, on items of the user's own.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, ConditionCheck, Delete, KeySchemaElement, KeyType, Put,
    ReturnValuesOnConditionCheckFailure, ScalarAttributeType, TransactWriteItem, Update,
};
use dynamo_elector::{Elector, Embedded, ErrorKind, Fault, Faults, FenceCondition, Fencing, Leadership, LockClient};

use crate::support::{Item, key_of, kind, number, refusal, since, sleep, text, within};
use crate::{builder, client};

const REFUSED: &str = "ConditionalCheckFailedException";

/// Users write with a client of their own, in a table of their own.
async fn schedule(engine: &Embedded) -> Client {
    let client = engine.client();
    let id = AttributeDefinition::builder().attribute_name("id").attribute_type(ScalarAttributeType::S);
    let key = KeySchemaElement::builder().attribute_name("id").key_type(KeyType::Hash).build().unwrap();
    let create = client.create_table().table_name("schedule").billing_mode(BillingMode::PayPerRequest);
    create.attribute_definitions(id.build().unwrap()).key_schema(key).send().await.unwrap();
    client
}

async fn read(client: &Client, id: &str) -> Option<Item> {
    client.get_item().table_name("schedule").key("id", text(id)).consistent_read(true).send().await.unwrap().item
}

/// The code of the refusal, `None` if it was applied.
async fn update(client: &Client, fence: &FenceCondition, id: &str, by: &str) -> Option<String> {
    let update = client.update_item().table_name("schedule").key("id", text(id));
    let update = update.update_expression("SET written = :by").expression_attribute_values(":by", text(by));
    code(fence.apply_to(update).unwrap().send().await)
}

async fn put(client: &Client, fence: &FenceCondition, id: &str, by: &str) -> Option<String> {
    let put = client.put_item().table_name("schedule").item("id", text(id)).item("written", text(by));
    code(fence.apply_to(put).unwrap().send().await)
}

fn code<T, E: ProvideErrorMetadata>(sent: Result<T, E>) -> Option<String> {
    sent.err().map(|error| error.code().unwrap_or("no answer").to_owned())
}

/// A put beside a check of the fence record: the reasons of its cancellation, none if it was applied.
async fn checked(client: &Client, check: ConditionCheck, id: &str, by: &str) -> Vec<String> {
    let put = Put::builder().table_name("schedule").item("id", text(id)).item("written", text(by)).build().unwrap();
    transaction(client, vec![check.into_item(), TransactWriteItem::builder().put(put).build()]).await
}

async fn transaction(client: &Client, parts: Vec<TransactWriteItem>) -> Vec<String> {
    match client.transact_write_items().set_transact_items(Some(parts)).send().await {
        Ok(_) => Vec::new(),
        Err(error) => match error.as_service_error() {
            Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
                let reasons = cancelled.cancellation_reasons().iter();
                reasons.map(|reason| reason.code().unwrap_or("None").to_owned()).collect()
            }
            _ => panic!("{error:?}"),
        },
    }
}

trait IntoItem {
    fn into_item(self) -> TransactWriteItem;
}

impl IntoItem for ConditionCheck {
    fn into_item(self) -> TransactWriteItem {
        TransactWriteItem::builder().condition_check(self).build()
    }
}

fn elector(locks: &LockClient) -> Elector {
    Elector::builder(locks, "nightly-billing").build().unwrap()
}

async fn fenced(engine: &Embedded, faults: &Faults, seed: u64) -> LockClient {
    builder(engine, faults, seed).fencing(Fencing::FenceRecord).build().await.unwrap()
}

/// A leader that is cut off and does not know it yet, and the one that takes over.
async fn deposed_and_newer(engine: &Embedded, fencing: Fencing) -> (Leadership, Leadership) {
    let faults = Faults::none();
    let locks = builder(engine, &faults, 1).fencing(fencing).build().await.unwrap();
    let deposed = elector(&locks).campaign().await.unwrap();
    faults.set(|_| Fault::LoseRequest);
    let others = builder(engine, &Faults::none(), 2).fencing(fencing).build().await.unwrap();
    let newer = within(30_000, elector(&others).campaign()).await.unwrap();
    assert!(newer.is_valid() && !deposed.is_valid());
    assert!(newer.fence().number() > deposed.fence().number());
    (deposed, newer)
}

#[tokio::test(start_paused = true)]
async fn a_deposed_leader_writes_nothing_that_the_newer_has_written() {
    for fencing in [Fencing::Record, Fencing::FenceRecord] {
        let engine = Embedded::in_memory().unwrap();
        let client = schedule(&engine).await;
        let (deposed, newer) = deposed_and_newer(&engine, fencing).await;
        let (old, new) = (deposed.fence().condition(), newer.fence().condition());
        assert_eq!(update(&client, &old, "updated", "old").await, None, "the newer leader has not been here yet");
        assert_eq!(update(&client, &new, "updated", "new").await, None);
        assert_eq!(update(&client, &old, "updated", "late").await.as_deref(), Some(REFUSED), "{fencing:?}");
        assert_eq!(put(&client, &old, "updated", "late").await.as_deref(), Some(REFUSED), "in whatever way it writes");
        assert_eq!(put(&client, &old, "put", "old").await, None);
        assert_eq!(put(&client, &new, "put", "new").await, None);
        assert_eq!(put(&client, &old, "put", "late").await.as_deref(), Some(REFUSED), "{fencing:?}");
        assert_eq!(update(&client, &old, "put", "late").await.as_deref(), Some(REFUSED), "in whatever way it writes");
        for id in ["updated", "put"] {
            let item = [("id", text(id)), ("written", text("new")), ("fencingToken", number(2))];
            assert_eq!(read(&client, id).await, Some(item.map(|(name, is)| (name.to_owned(), is)).into()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_deposed_leader_writes_nothing_at_all_beside_a_check_once_the_newer_was_handed_out() {
    let engine = Embedded::in_memory().unwrap();
    let client = schedule(&engine).await;
    let faults = Faults::none();
    let locks = fenced(&engine, &faults, 1).await;
    let deposed = elector(&locks).campaign().await.unwrap();
    let fence = deposed.fence();
    assert!(checked(&client, fence.condition_check().unwrap(), "first", "old").await.is_empty());
    faults.set(|_| Fault::LoseRequest);
    deposed.cancelled().await;
    assert!(checked(&client, fence.condition_check().unwrap(), "second", "old").await.is_empty(), "nobody leads yet");
    let others = fenced(&engine, &Faults::none(), 2).await;
    let newer = within(30_000, elector(&others).campaign()).await.unwrap();
    let late = checked(&client, fence.condition_check().unwrap(), "third", "late").await;
    assert_eq!(late, ["ConditionalCheckFailed", "None"]);
    assert_eq!(read(&client, "third").await, None, "although nobody has written it");
    let gone = Delete::builder().table_name("schedule").key("id", text("first")).build().unwrap();
    let gone = TransactWriteItem::builder().delete(gone).build();
    let late = transaction(&client, vec![gone.clone(), fence.condition_check().unwrap().into_item()]).await;
    assert_eq!(late, ["None", "ConditionalCheckFailed"]);
    assert!(read(&client, "first").await.is_some());
    let check = newer.view().fence().condition_check().unwrap();
    assert!(transaction(&client, vec![gone, check.clone().into_item()]).await.is_empty());
    assert_eq!(read(&client, "first").await, None);
    assert!(checked(&client, check, "third", "new").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_leader_writes_as_often_as_it_likes_while_it_leads() {
    let engine = Embedded::in_memory().unwrap();
    let client = schedule(&engine).await;
    let faults = Faults::none();
    let leadership = elector(&fenced(&engine, &faults, 1).await).campaign().await.unwrap();
    let (fence, from) = (leadership.fence(), faults.calls().len());
    for round in 0..12 {
        let by = format!("round {round}");
        assert_eq!(update(&client, &fence.condition(), "updated", &by).await, None);
        assert_eq!(put(&client, &fence.condition(), "put", &by).await, None);
        assert!(checked(&client, fence.condition_check().unwrap(), "checked", &by).await.is_empty());
        assert_eq!(read(&client, "checked").await.unwrap()["written"], text(&by));
        sleep(1_000).await;
    }
    assert!(leadership.is_valid());
    let beats = since(&faults, from);
    assert!((4..=6).contains(&beats.len()), "{} heartbeats", beats.len());
    assert!(beats.iter().all(|call| key_of(call) == "nightly-billing"), "none of them touches the fence record");
}

/// A fence is no pin: the release does not wait for it, and what it guards is refused afterwards.
#[tokio::test(start_paused = true)]
async fn a_fence_outlives_its_leadership_and_holds_nothing_back() {
    let engine = Embedded::in_memory().unwrap();
    let client = schedule(&engine).await;
    let elector = elector(&fenced(&engine, &Faults::none(), 1).await);
    let leadership = elector.campaign().await.unwrap();
    let fence = leadership.fence();
    assert_eq!(fence.number(), leadership.fencing_token());
    let start = tokio::time::Instant::now();
    leadership.resign().await;
    assert!(start.elapsed().as_millis() < 500, "the release waited {:?}", start.elapsed());
    let next = within(6_000, elector.campaign()).await.unwrap();
    assert_eq!(next.fence().number(), 2);
    assert_eq!(checked(&client, fence.condition_check().unwrap(), "a", "late").await[0], "ConditionalCheckFailed");
    assert!(checked(&client, next.fence().condition_check().unwrap(), "a", "new").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn conditions_and_placeholders_of_users_go_on_working() {
    let engine = Embedded::in_memory().unwrap();
    let client = schedule(&engine).await;
    let leadership = elector(&client_of(&engine).await).campaign().await.unwrap();
    let fence = leadership.fence().condition();
    // Names that clash with the fence's own, keywords inside words, all four clauses, and an OR that must stay one operand.
    let write = |hour: &str| {
        client
            .update_item()
            .table_name("schedule")
            .key("id", text("one"))
            .update_expression(
                "remove #electorFence Set prefs.opens = :electorFence, #set = :set add runs :one DELETE tags :tags",
            )
            .condition_expression("prefs.opens <> :electorFence OR attribute_not_exists(id)")
            .expression_attribute_names("#electorFence", "old")
            .expression_attribute_names("#set", "set")
            .expression_attribute_values(":electorFence", text(hour))
            .expression_attribute_values(":set", text("x"))
            .expression_attribute_values(":one", number(1))
            .expression_attribute_values(":tags", AttributeValue::Ss(vec!["a".into()]))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
    };
    let item = client.put_item().table_name("schedule").item("id", text("one")).item("old", text("x"));
    let prefs = AttributeValue::M([("opens".to_owned(), text("1"))].into());
    let item = item.item("prefs", prefs).item("tags", AttributeValue::Ss(vec!["a".into(), "b".into()]));
    assert_eq!(code(fence.apply_to(item).unwrap().send().await), None);
    assert_eq!(code(fence.apply_to(write("2")).unwrap().send().await), None);
    let written = read(&client, "one").await.unwrap();
    assert_eq!(written["prefs"].as_m().unwrap()["opens"], text("2"));
    assert_eq!((&written["runs"], &written["set"]), (&number(1), &text("x")));
    assert_eq!((&written["fencingToken"], written.get("old")), (&number(1), None));
    assert_eq!(written["tags"], AttributeValue::Ss(vec!["b".into()]));
    assert_eq!(written.len(), 6, "no attribute besides: {written:?}");
    let refused = code(fence.apply_to(write("2")).unwrap().send().await);
    assert_eq!(refused.as_deref(), Some(REFUSED), "their condition refuses, though the fence would let it pass");
    assert_eq!(read(&client, "one").await.unwrap(), written);
}

async fn client_of(engine: &Embedded) -> LockClient {
    client(engine, &Faults::none(), 1).await
}

/// An `OR` in the user's condition must not let a deposed leader through.
#[tokio::test(start_paused = true)]
async fn no_condition_of_a_user_opens_the_fence() {
    let engine = Embedded::in_memory().unwrap();
    let client = schedule(&engine).await;
    let (deposed, newer) = deposed_and_newer(&engine, Fencing::Record).await;
    assert_eq!(put(&client, &newer.fence().condition(), "one", "new").await, None);
    let write = || client.put_item().table_name("schedule").item("id", text("one"));
    let fence = deposed.fence().condition();
    for condition in [
        "attribute_exists(id) OR attribute_not_exists(id)",
        "NOT attribute_exists(x)",
        "(attribute_exists(id) OR attribute_exists(x))",
        "(attribute_exists(id)) OR (attribute_exists(x))",
    ] {
        let write = write().condition_expression(condition);
        assert_eq!(code(fence.apply_to(write).unwrap().send().await).as_deref(), Some(REFUSED), "{condition}");
    }
    for condition in ["attribute_exists(id) OR (attribute_exists(x)", "attribute_exists(id)) OR (attribute_exists(x)"] {
        assert_eq!(kind(fence.apply_to(write().condition_expression(condition))), ErrorKind::InvalidInput);
    }
    // What replaces the fence's expressions is refused too, as a mistake: its placeholders are used no more.
    let replaced = fence.apply_to(write()).unwrap().condition_expression("attribute_exists(id)");
    assert_eq!(code(replaced.send().await).as_deref(), Some("ValidationException"));
    let write = || client.update_item().table_name("schedule").key("id", text("one"));
    let replaced = fence.apply_to(write()).unwrap().condition_expression("attribute_exists(id)");
    assert_eq!(code(replaced.send().await).as_deref(), Some("ValidationException"));
    let replaced = newer.fence().condition().apply_to(write()).unwrap().update_expression("REMOVE written");
    assert_eq!(code(replaced.send().await).as_deref(), Some("ValidationException"));
    assert_eq!(read(&client, "one").await.unwrap()["written"], text("new"));
}

#[tokio::test(start_paused = true)]
async fn parts_of_a_transaction_are_guarded_alike() {
    let engine = Embedded::in_memory().unwrap();
    let client = schedule(&engine).await;
    let (deposed, newer) = deposed_and_newer(&engine, Fencing::Record).await;
    let parts = |leadership: &Leadership, by: &str| {
        let fence = leadership.fence().condition().attribute("term");
        let update = Update::builder().table_name("schedule").key("id", text("one"));
        let update = update.update_expression("SET written = :by").expression_attribute_values(":by", text(by));
        let put = Put::builder().table_name("schedule").item("id", text("two")).item("written", text(by));
        let update = fence.apply_to(update).unwrap().build().unwrap();
        let put = fence.apply_to(put).unwrap().build().unwrap();
        vec![TransactWriteItem::builder().update(update).build(), TransactWriteItem::builder().put(put).build()]
    };
    assert!(transaction(&client, parts(&newer, "new")).await.is_empty());
    assert_eq!(transaction(&client, parts(&deposed, "late")).await, ["ConditionalCheckFailed"; 2]);
    assert!(transaction(&client, parts(&newer, "again")).await.is_empty());
    for id in ["one", "two"] {
        let item = read(&client, id).await.unwrap();
        assert_eq!((&item["written"], &item["term"], item.len()), (&text("again"), &number(2), 3));
    }
}

#[tokio::test(start_paused = true)]
async fn an_attribute_that_is_no_number_lets_nobody_through() {
    let engine = Embedded::in_memory().unwrap();
    let client = schedule(&engine).await;
    let leadership = elector(&client_of(&engine).await).campaign().await.unwrap();
    let odd = client.put_item().table_name("schedule").item("id", text("one")).item("fencingToken", text("1"));
    odd.send().await.unwrap();
    assert_eq!(update(&client, &leadership.fence().condition(), "one", "new").await.as_deref(), Some(REFUSED));
    assert_eq!(update(&client, &leadership.fence().condition().attribute("term"), "one", "new").await, None);
}

#[tokio::test(start_paused = true)]
async fn a_check_names_the_fence_record_by_the_clients_keys() {
    let engine = Embedded::in_memory().unwrap();
    let client = schedule(&engine).await;
    let locks = builder(&engine, &Faults::none(), 1).sort_key_name("part").fencing(Fencing::FenceRecord);
    let locks = locks.build().await.unwrap();
    let campaign = async |part: &str| {
        let elector = Elector::builder(&locks, ("nightly-billing", part)).build().unwrap();
        within(3_000, elector.campaign()).await.unwrap()
    };
    campaign("one").await.resign().await;
    let (one, two) = (campaign("one").await, campaign("two").await);
    let check = one.fence().condition_check().unwrap();
    let key = [("key", text("nightly-billing#fence")), ("part", text("one"))];
    assert_eq!((check.table_name(), check.key()), ("locks", &key.map(|(name, is)| (name.to_owned(), is)).into()));
    assert_eq!((one.fence().number(), two.fence().number()), (2, 1));
    for leadership in [&one, &two] {
        assert!(checked(&client, leadership.fence().condition_check().unwrap(), "a", "x").await.is_empty());
    }
    let fence = one.fence();
    one.resign().await;
    let _next = campaign("one").await;
    assert_eq!(checked(&client, fence.condition_check().unwrap(), "a", "late").await[0], "ConditionalCheckFailed");
    assert!(checked(&client, two.fence().condition_check().unwrap(), "a", "x").await.is_empty(), "not this one's term");
}

#[tokio::test(start_paused = true)]
async fn without_a_fence_record_there_is_nothing_to_check() {
    let engine = Embedded::in_memory().unwrap();
    let leadership = elector(&client_of(&engine).await).campaign().await.unwrap();
    let check = leadership.fence().condition_check();
    assert!(check.as_ref().unwrap_err().to_string().contains("fencing(Fencing::FenceRecord)"));
    assert_eq!(kind(check), ErrorKind::NoFencing);
    assert_eq!(leadership.view().fence().number(), 1, "the number is there all the same");
}

/// A seal conflicts with transactions that check the record. No leadership is handed out on a number that is not sealed.
#[tokio::test(start_paused = true)]
async fn a_leader_waits_until_transactions_let_it_seal() {
    let engine = Embedded::in_memory().unwrap();
    let client = schedule(&engine).await;
    let fence = {
        let first = elector(&fenced(&engine, &Faults::none(), 1).await).campaign().await.unwrap();
        let fence = first.fence();
        first.resign().await;
        fence
    };
    let faults = Faults::none();
    let locks = fenced(&engine, &faults, 2).await;
    let mut conflicts = 0;
    faults.set(move |call| {
        let seal = call.operation == "UpdateItem" && key_of(call) == "nightly-billing#fence";
        conflicts += u32::from(seal);
        if seal && conflicts <= 10 {
            refusal("TransactionConflictException", "Transaction is ongoing for the item")
        } else {
            Fault::Deliver
        }
    });
    let campaign = tokio::spawn(async move { elector(&locks).campaign().await.unwrap() });
    let mut passed = 0;
    while !campaign.is_finished() {
        // Not sealed yet: the number before still stands, and nobody leads by a newer one.
        let reasons = checked(&client, fence.condition_check().unwrap(), "a", "old").await;
        let sealed = faults.calls().iter().any(|(call, fault)| {
            *fault == Fault::Deliver && call.operation == "UpdateItem" && key_of(call) == "nightly-billing#fence"
        });
        assert_eq!(reasons.is_empty(), !sealed, "{reasons:?}");
        passed += u32::from(reasons.is_empty());
        sleep(10).await;
    }
    let newer = within(1_000, campaign).await.unwrap();
    assert!(passed > 10, "{passed}");
    assert_eq!(newer.fence().number(), 2, "no number is burnt by a conflict");
    assert_eq!(checked(&client, fence.condition_check().unwrap(), "a", "late").await[0], "ConditionalCheckFailed");
    assert!(checked(&client, newer.fence().condition_check().unwrap(), "a", "new").await.is_empty());
}

crate::privileges::suite! {
    a_deposed_leader_writes_nothing_that_the_newer_has_written,
    a_deposed_leader_writes_nothing_at_all_beside_a_check_once_the_newer_was_handed_out,
    a_leader_writes_as_often_as_it_likes_while_it_leads,
    a_fence_outlives_its_leadership_and_holds_nothing_back,
    conditions_and_placeholders_of_users_go_on_working,
    no_condition_of_a_user_opens_the_fence,
    parts_of_a_transaction_are_guarded_alike,
    an_attribute_that_is_no_number_lets_nobody_through,
    a_check_names_the_fence_record_by_the_clients_keys,
    without_a_fence_record_there_is_nothing_to_check,
    a_leader_waits_until_transactions_let_it_seal,
}
