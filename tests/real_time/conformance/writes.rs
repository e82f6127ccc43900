//! Conditional writes: creation, renewal, release, take-over, and what operators write.

use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};

use super::engine::Engine;
use super::quirks::Quirk;
use super::table::{Answer, Change, answer, b, item, n, s};

const CREATION: &str = "attribute_not_exists(#key) OR #version IN (:known0)";

fn claim<'a>(condition: &'a str, version: &str) -> Change<'a> {
    Change {
        update: "SET #version = :version, #owner = :owner, #token = :token, #data = :data REMOVE #released",
        condition,
        values: vec![
            (":version", s(version)),
            (":owner", s("me")),
            (":token", n(1)),
            (":data", b(b"here")),
            (":known0", s(version)),
        ],
    }
}

/// A record with these versions named, under a condition.
fn naming<'a>(condition: &'a str, versions: &[&str]) -> Change<'a> {
    const KNOWN: [&str; 4] = [":known0", ":known1", ":known2", ":known3"];
    let mut values: Vec<(&str, AttributeValue)> = vec![(":version", s("new"))];
    values.extend(KNOWN.into_iter().zip(versions.iter().map(|version| s(version))));
    Change { update: "SET #version = :version", condition, values }
}

pub(super) async fn a_creation_applies_once_and_its_repetition_is_recognised(engine: &Engine) {
    let table = engine.table().await;
    let mine = item(&[
        ("key", s("job")),
        ("recordVersionNumber", s("v1")),
        ("ownerName", s("me")),
        ("fencingToken", n(1)),
        ("data", b(b"here")),
    ]);
    let created = table.apply("job", &claim(CREATION, "v1")).await;
    assert_eq!(created, Answer::Applied(Some(mine.clone())), "ALL_NEW shows the whole item, its key included");
    let refused = table.apply("job", &claim(CREATION, "v2")).await;
    assert_eq!(refused, Answer::Refused(Some(mine.clone())), "ALL_OLD shows the whole item that stood in the way");
    let repeated = table.apply("job", &claim(CREATION, "v1")).await;
    assert_eq!(repeated, Answer::Applied(Some(mine.clone())), "the very same write, once more");
    assert_eq!(table.read("job").await, Some(mine));
}

pub(super) async fn in_takes_one_to_four_operands(engine: &Engine) {
    const LISTS: [&str; 4] = [
        "#version IN (:known0)",
        "#version IN (:known0, :known1)",
        "#version IN (:known0, :known1, :known2)",
        "#version IN (:known0, :known1, :known2, :known3)",
    ];
    let table = engine.table().await;
    for (operands, condition) in (1..).zip(LISTS) {
        for matching in 0..=operands {
            table.put(&[("key", s("job")), ("recordVersionNumber", s("current"))]).await;
            // The last round has no match at all.
            let names: Vec<&str> = (0..operands).map(|at| if at == matching { "current" } else { "other" }).collect();
            let applied = table.apply("job", &naming(condition, &names)).await.applied();
            assert_eq!(applied, matching < operands, "{condition} with {names:?}");
        }
    }
    table.put(&[("key", s("job")), ("recordVersionNumber", n(7))]).await;
    let other_type = table.apply("job", &naming(LISTS[0], &["7"])).await;
    assert!(!other_type.applied(), "a number is not the text of it, and no error: {other_type:?}");
    table.put(&[("key", s("job"))]).await;
    assert!(!table.apply("job", &naming(LISTS[0], &["7"])).await.applied(), "a missing attribute is in no list");
}

/// R3: a mark under a live holder is a loss.
pub(super) async fn a_renewal_is_refused_once_the_record_is_marked_released(engine: &Engine) {
    let renewal = naming("#version IN (:known0, :known1) AND attribute_not_exists(#released)", &["old", "new"]);
    let table = engine.table().await;
    let held = [("key", s("job")), ("recordVersionNumber", s("old"))];
    table.put(&held).await;
    assert!(table.apply("job", &renewal).await.applied());
    for mark in [s("1"), s(""), AttributeValue::Bool(false), AttributeValue::Null(true)] {
        let mut released = held.to_vec();
        released.push(("isReleased", mark));
        table.put(&released).await;
        let refused = table.apply("job", &renewal).await;
        assert_eq!(refused, Answer::Refused(Some(item(&released))), "the mark counts by its presence");
    }
    let taken = [("key", s("job")), ("recordVersionNumber", s("theirs"))];
    table.put(&taken).await;
    assert_eq!(table.apply("job", &renewal).await, Answer::Refused(Some(item(&taken))), "both sides of AND must hold");
}

pub(super) async fn retiring_takes_the_version_that_was_seen_and_the_mark(engine: &Engine) {
    let retire = Change {
        update: "SET #version = :version REMOVE #data, #heartbeat, #more0",
        condition: "#version = :seen AND attribute_exists(#released)",
        values: vec![(":version", s("new")), (":seen", s("seen"))],
    };
    let table = engine.table().await;
    let record = |version: &str, mark: bool| {
        let mut record = vec![("key", s("job")), ("recordVersionNumber", s(version)), ("data", b(b"old"))];
        record.extend(mark.then(|| ("isReleased", s("1"))));
        record
    };
    for (version, mark) in [("seen", false), ("other", true), ("other", false)] {
        table.put(&record(version, mark)).await;
        let refused = table.apply("job", &retire).await;
        assert_eq!(refused, Answer::Refused(Some(item(&record(version, mark)))), "{version}, released: {mark}");
    }
    table.put(&record("seen", true)).await;
    let left = item(&[("key", s("job")), ("recordVersionNumber", s("new")), ("isReleased", s("1"))]);
    assert_eq!(table.apply("job", &retire).await, Answer::Applied(Some(left)), "attributes that are not there go too");
}

pub(super) async fn a_repair_compares_versions_of_every_type(engine: &Engine) {
    let table = engine.table().await;
    let values = [s("text"), n("1.50"), AttributeValue::Bool(true), b(b"bytes"), AttributeValue::Null(true)];
    for (at, stored) in values.iter().enumerate() {
        for (other, seen) in values.iter().enumerate() {
            table.put(&[("key", s("job")), ("recordVersionNumber", stored.clone())]).await;
            let repair = Change {
                update: "SET #version = :version",
                condition: "#version = :seen",
                values: vec![(":version", s("new")), (":seen", seen.clone())],
            };
            let applied = table.apply("job", &repair).await.applied();
            assert_eq!(applied, at == other, "{stored:?} = {seen:?}");
        }
    }
    let blind = Change {
        update: "SET #version = :version",
        condition: "attribute_not_exists(#version) AND attribute_exists(#key)",
        values: vec![(":version", s("new"))],
    };
    assert_eq!(table.apply("nothing", &blind).await, Answer::Refused(None), "a repair creates nothing");
    table.put(&[("key", s("odd")), ("precious", s("data"))]).await;
    let repaired = item(&[("key", s("odd")), ("precious", s("data")), ("recordVersionNumber", s("new"))]);
    assert_eq!(table.apply("odd", &blind).await, Answer::Applied(Some(repaired.clone())));
    assert_eq!(table.apply("odd", &blind).await, Answer::Refused(Some(repaired)), "it has a version now");
}

/// R6: an order of texts would put 9 above 10, an order of floats would not see the last digits of a large number.
pub(super) async fn a_seal_compares_numbers_as_numbers(engine: &Engine) {
    let table = engine.table().await;
    let seal = |token: u64, version: &str| Change {
        update: "SET #token = :token, #version = :version, #released = :released",
        condition: "attribute_not_exists(#token) OR #token < :token OR #version = :version",
        values: vec![(":token", n(token)), (":version", s(version)), (":released", s("1"))],
    };
    let large = 1 << 62;
    for (stored, token, applies) in [
        (9, 10, true),
        (10, 9, false),
        (10, 10, false),
        (99, 100, true),
        (large - 1, large, true),
        (large, large - 1, false),
    ] {
        table.put(&[("key", s("job#fence")), ("fencingToken", n(stored)), ("recordVersionNumber", s("theirs"))]).await;
        let sealed = table.apply("job#fence", &seal(token, "mine")).await;
        assert_eq!(sealed.applied(), applies, "{token} over {stored}: {sealed:?}");
        let now = table.read("job#fence").await.unwrap();
        assert_eq!(now["fencingToken"], n(if applies { token } else { stored }), "to the last digit");
    }
    table.put(&[("key", s("job#fence")), ("fencingToken", n(7)), ("recordVersionNumber", s("mine"))]).await;
    assert!(table.apply("job#fence", &seal(7, "mine")).await.applied(), "the very same seal, once more");
    table.put(&[("key", s("job#fence"))]).await;
    assert!(table.apply("job#fence", &seal(1, "mine")).await.applied(), "no number yet");
    assert!(table.apply("new#fence", &seal(1, "mine")).await.applied(), "no record yet");
}

pub(super) async fn an_update_sets_removes_and_keeps_the_rest(engine: &Engine) {
    let table = engine.table().await;
    let nested =
        AttributeValue::M(item(&[("list", AttributeValue::L(vec![n(1), s("two"), AttributeValue::Null(true)]))]));
    let others = [
        ("empty", s("")),
        ("unicode", s("tschüß 🦀")),
        ("number", n("12345678901234567890.123456789")),
        ("bytes", b(&[0, 159, 146, 150])),
        ("nested", nested),
        ("numbers", AttributeValue::Ns(vec!["1".into()])),
        ("texts", AttributeValue::Ss(vec!["a".into()])),
        ("flag", AttributeValue::Bool(false)),
    ];
    let old = [("key", s("job")), ("recordVersionNumber", s("v1")), ("isReleased", s("1")), ("data", b(b"old"))];
    table.put(&[&old[..], &others[..]].concat()).await;
    let change = Change {
        update: "SET #version = :version, #token = :token REMOVE #released, #data, #heartbeat",
        condition: "#version IN (:known0)",
        values: vec![(":version", s("v2")), (":token", n(2)), (":known0", s("v1"))],
    };
    let new = [("key", s("job")), ("recordVersionNumber", s("v2")), ("fencingToken", n(2))];
    let expected = item(&[&new[..], &others[..]].concat());
    assert_eq!(table.apply("job", &change).await, Answer::Applied(Some(expected.clone())));
    assert_eq!(table.read("job").await, Some(expected));
    let quiet = naming("#version IN (:known0)", &["v2"]);
    let quiet = answer(table.update("job", &quiet).return_values(ReturnValue::None)).await;
    assert_eq!(quiet, Answer::Applied(None), "ReturnValues NONE shows nothing");
}

pub(super) async fn a_refused_write_of_an_absent_item_shows_none_and_creates_none(engine: &Engine) {
    let table = engine.table().await;
    let release = naming("#version IN (:known0, :known1)", &["old", "new"]);
    assert_eq!(table.apply("job", &release).await, Answer::Refused(None));
    assert_eq!(table.read("job").await, None);
    let delete = Change { update: "", condition: "#version IN (:known0)", values: vec![(":known0", s("v1"))] };
    assert_eq!(table.apply_delete("job", &delete).await, Answer::Refused(None));
}

pub(super) async fn a_delete_takes_the_version_it_names(engine: &Engine) {
    let table = engine.table().await;
    let record = [("key", s("job")), ("recordVersionNumber", s("v1")), ("data", b(b"here"))];
    table.put(&record).await;
    let delete = |versions: [&str; 2]| Change {
        update: "",
        condition: "#version IN (:known0, :known1)",
        values: vec![(":known0", s(versions[0])), (":known1", s(versions[1]))],
    };
    let refused = table.apply_delete("job", &delete(["v0", "v2"])).await;
    assert_eq!(refused, Answer::Refused(Some(item(&record))), "ALL_OLD shows what stood in the way");
    assert_eq!(table.read("job").await, Some(item(&record)), "and it stands");
    assert_eq!(table.apply_delete("job", &delete(["v0", "v1"])).await, Answer::Applied(None));
    assert_eq!(table.read("job").await, None);
}

/// An expression must not carry what it does not use: the crate's own never do.
pub(super) async fn placeholders_must_be_used_and_must_be_given(engine: &Engine) {
    let table = engine.table().await;
    let unused = naming("#version IN (:known0)", &["v1", "v2"]);
    let refused = table.update("job", &unused).send().await.unwrap_err();
    assert_eq!(refused.code(), Some("ValidationException"), "unused: {refused:?}");
    let missing = naming("#version IN (:known0, :known1)", &["v1"]);
    let refused = table.update("job", &missing).send().await.unwrap_err();
    assert_eq!(refused.code(), Some("ValidationException"), "missing: {refused:?}");
    // The condition holds, so that nothing but the overlap can be refused.
    table.put(&[("key", s("job")), ("recordVersionNumber", s("v1"))]).await;
    let known = naming("#version IN (:known0)", &["v1"]);
    let twice = Change { update: "SET #version = :version REMOVE #version", ..known };
    let refused = table.update("job", &twice).send().await;
    let code = refused.as_ref().err().and_then(ProvideErrorMetadata::code);
    let expected = (!engine.has(Quirk::OverlapIsNotRefused)).then_some("ValidationException");
    assert_eq!(code, expected, "one attribute set and removed: {refused:?}");
}
