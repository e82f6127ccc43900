//! Which requests a scenario sends: of the clients that the helpers hand out, on the thread that records.

use std::cell::RefCell;
use std::collections::BTreeMap;

use dynamo_elector::Faults;
use serde_json::Value;

use super::policy::Request;

thread_local! {
    static RECORDING: RefCell<Option<Vec<Faults>>> = const { RefCell::new(None) };
}

/// Called by the helpers for every client they hand out. Simulated clients live on one thread, so a test that is
/// called to be recorded shares nothing with those that run beside it.
pub(crate) fn record(faults: &Faults) {
    RECORDING.with_borrow_mut(|recording| {
        if let Some(clients) = recording {
            clients.push(faults.clone());
        }
    });
}

/// The requests of every client that is handed out while `scenario` runs, and how often each was sent.
pub(super) fn requests(scenario: impl FnOnce()) -> BTreeMap<Request, usize> {
    RECORDING.set(Some(Vec::new()));
    scenario();
    let clients = RECORDING.take().expect("set above, and no scenario records in itself");
    let mut sent = BTreeMap::new();
    for (call, _) in clients.iter().flat_map(Faults::calls) {
        for request in asked(&call.operation, &call.body) {
            *sent.entry(request).or_default() += 1;
        }
    }
    sent
}

/// What IAM is asked for a request.
fn asked(operation: &str, body: &str) -> Vec<Request> {
    let body: Value = serde_json::from_str(body).expect("the SDK sends JSON");
    if operation == "TransactWriteItems" {
        return body["TransactItems"].as_array().expect("a list of parts").iter().map(part).collect();
    }
    let table = body["TableName"].as_str().expect("every request names its table").to_owned();
    let key = match operation {
        "GetItem" | "UpdateItem" | "DeleteItem" => Some(leading(&body["Key"])),
        "Query" => Some(query_key(&body)),
        "Scan" | "DescribeTable" | "DescribeTimeToLive" | "CreateTable" => None,
        other => panic!("{other}: say here which key it names"),
    };
    let request = Request { action: operation.into(), table, key };
    let tags = body["Tags"].as_array().is_some_and(|tags| !tags.is_empty());
    let tagging = tags.then(|| Request { action: "TagResource".into(), ..request.clone() });
    std::iter::once(request).chain(tagging).collect()
}

/// IAM knows no transactions: it is asked for each part.
fn part(part: &Value) -> Request {
    let (kind, body) = part.as_object().and_then(|part| part.iter().next()).expect("a part of a transaction");
    let key = if kind == "Put" { &body["Item"] } else { &body["Key"] };
    let table = body["TableName"].as_str().expect("every part names its table").to_owned();
    // An action is called like its part, with `Item` behind it.
    Request { action: format!("{kind}Item"), table, key: Some(leading(key)) }
}

fn text(value: &Value) -> String {
    value["S"].as_str().unwrap_or_else(|| panic!("{value} is no key of text")).to_owned()
}

/// The partition key's value: of the attribute `key`, or of the only one where a test calls it otherwise.
fn leading(key: &Value) -> String {
    let key = key.as_object().expect("a key");
    let only = || key.values().next().filter(|_| key.len() == 1);
    let named = key.get("key").or_else(|| key.get("id")).or_else(only);
    text(named.unwrap_or_else(|| panic!("which is the partition key in {key:?}?")))
}

/// The crate's one form, `#key = :key`.
fn query_key(body: &Value) -> String {
    assert_eq!(body["KeyConditionExpression"], "#key = :key");
    text(&body["ExpressionAttributeValues"][":key"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_off_their_bodies() {
        let one = |operation: &str, body: &str| {
            let asked = asked(operation, body).into_iter();
            asked.map(|request| (request.action, request.key)).collect::<Vec<_>>()
        };
        let get = r#"{"TableName": "locks", "Key": {"part": {"S": "x"}, "key": {"S": "job"}}}"#;
        assert_eq!(one("GetItem", get), [("GetItem".to_owned(), Some("job".to_owned()))]);
        let create = r#"{"TableName": "locks", "Tags": [{"Key": "a", "Value": "b"}]}"#;
        assert_eq!(one("CreateTable", create), [("CreateTable".into(), None), ("TagResource".into(), None)]);
        assert_eq!(one("CreateTable", r#"{"TableName": "locks", "Tags": []}"#), [("CreateTable".into(), None)]);
        let query = r##"{"TableName": "locks", "KeyConditionExpression": "#key = :key",
            "ExpressionAttributeNames": {"#key": "key"}, "ExpressionAttributeValues": {":key": {"S": "job"}}}"##;
        assert_eq!(one("Query", query), [("Query".into(), Some("job".into()))]);
        let transaction = r#"{"TransactItems": [{"ConditionCheck": {"TableName": "locks", "Key": {"key": {"S": "job#fence"}}}},
            {"Put": {"TableName": "own", "Item": {"id": {"S": "a"}, "b": {"S": "c"}}}}]}"#;
        let parts = [("ConditionCheckItem", "job#fence"), ("PutItem", "a")];
        assert_eq!(
            one("TransactWriteItems", transaction),
            parts.map(|(action, key)| (action.into(), Some(key.into())))
        );
    }
}
