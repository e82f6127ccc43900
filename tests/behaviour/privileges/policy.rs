//! A small evaluator of IAM policies: as much of the language as the ready policies use. Anything else is refused, since
//! what it does not understand it can't vouch for.

use std::fmt;

use serde_json::{Map, Value};

/// What was asked of DynamoDB, as IAM sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Request {
    /// Without its prefix `dynamodb:`.
    pub(super) action: String,
    pub(super) table: String,
    /// The partition key's value; `None` where the request names no key (`dynamodb:LeadingKeys` is absent then).
    pub(super) key: Option<String>,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{} on {} under {key:?}", self.action, self.table),
            None => write!(f, "{} on {}", self.action, self.table),
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Policy {
    statements: Vec<Statement>,
}

/// One that allows: there are no denials here.
#[derive(Debug, Clone)]
struct Statement {
    sid: String,
    actions: Vec<String>,
    table: String,
    condition: Condition,
}

#[derive(Debug, Clone, Default)]
struct Condition {
    equals: Option<Vec<String>>,
    like: Option<Vec<String>>,
    /// Whether a key must be there, or must not be.
    present: Option<bool>,
}

/// Each thing a policy grants: an action, under a key pattern where there is one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Grant {
    pub(super) sid: String,
    pub(super) action: String,
    pub(super) pattern: Option<String>,
}

impl Policy {
    pub(super) fn parse(json: &str) -> Self {
        let policy: Value = serde_json::from_str(json).expect("JSON");
        let policy = fields(&policy, &["Version", "Statement"]);
        assert_eq!(policy["Version"], "2012-10-17", "the language's current version");
        let statements = policy["Statement"].as_array().expect("a list of statements").iter();
        Self { statements: statements.map(Statement::parse).collect() }
    }

    /// What grants `request`; nothing: it is denied. `place` is put for the placeholder in the policy's patterns.
    pub(super) fn granted(&self, request: &Request, place: &Place<'_>) -> Vec<Grant> {
        self.statements.iter().filter_map(|statement| statement.grants(request, place)).flatten().collect()
    }

    pub(super) fn grants(&self) -> Vec<Grant> {
        let grants = self.statements.iter().flat_map(|statement| {
            let patterns = statement.condition.patterns();
            let patterns: Vec<_> =
                if patterns.is_empty() { vec![None] } else { patterns.into_iter().map(Some).collect() };
            let of = move |action: &String| {
                let grant = |pattern| Grant { sid: statement.sid.clone(), action: action.clone(), pattern };
                patterns.clone().into_iter().map(grant).collect::<Vec<_>>()
            };
            statement.actions.iter().flat_map(of)
        });
        grants.collect()
    }

    /// The policy without one grant: what a test of the tests takes away.
    pub(super) fn without(&self, grant: &Grant) -> Self {
        let mut less = self.clone();
        for statement in less.statements.iter_mut().filter(|statement| statement.sid == grant.sid) {
            match &grant.pattern {
                None => statement.actions.retain(|action| *action != grant.action),
                Some(pattern) => statement.condition.drop_pattern(pattern),
            }
        }
        less
    }
}

/// What to put for the placeholder of a policy's keys: the names that a suite of tests uses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) holder: &'a str,
    pub(super) names: &'a [&'a str],
}

impl Place<'_> {
    /// A pattern, once with each name.
    fn fill(&self, pattern: &str) -> Vec<String> {
        self.names.iter().map(|name| pattern.replace(self.holder, name)).collect()
    }
}

/// An object with no other fields than these: one that is not understood might change what the others mean.
fn fields<'a>(value: &'a Value, known: &[&str]) -> &'a Map<String, Value> {
    let fields = value.as_object().expect("an object");
    let unknown: Vec<_> = fields.keys().filter(|name| !known.contains(&name.as_str())).collect();
    assert!(unknown.is_empty(), "not understood: {unknown:?}");
    fields
}

fn texts(value: &Value) -> Vec<String> {
    let texts = value.as_array().expect("a list of texts").iter();
    texts.map(|text| text.as_str().expect("text").to_owned()).collect()
}

impl Statement {
    fn parse(statement: &Value) -> Self {
        let statement = fields(statement, &["Sid", "Effect", "Action", "Resource", "Condition"]);
        assert_eq!(statement["Effect"], "Allow", "denials are not understood here");
        let text = |name: &str| statement[name].as_str().expect("text").to_owned();
        let plain = |action: String| {
            assert!(!action.contains(['*', '?']), "{action}: name each action");
            action.strip_prefix("dynamodb:").expect("an action of DynamoDB").to_owned()
        };
        let table = text("Resource");
        let table = table.strip_prefix("arn:aws:dynamodb:REGION:ACCOUNT:table/").expect("a table's ARN");
        Self {
            sid: text("Sid"),
            actions: texts(&statement["Action"]).into_iter().map(plain).collect(),
            table: table.to_owned(),
            condition: statement.get("Condition").map(Condition::parse).unwrap_or_default(),
        }
    }

    fn grants(&self, request: &Request, place: &Place<'_>) -> Option<Vec<Grant>> {
        let action = self.actions.iter().find(|action| **action == request.action)?;
        if self.table != request.table {
            return None;
        }
        let grant = |pattern| Grant { sid: self.sid.clone(), action: action.clone(), pattern };
        let holding = self.condition.holds(request.key.as_deref(), place)?;
        let patterns: Vec<_> = if holding.is_empty() { vec![None] } else { holding.into_iter().map(Some).collect() };
        Some(patterns.into_iter().map(grant).collect())
    }
}

impl Condition {
    fn parse(condition: &Value) -> Self {
        let condition = fields(condition, &["ForAllValues:StringEquals", "ForAllValues:StringLike", "Null"]);
        let keys = |operator: &str| {
            let keys = condition.get(operator)?;
            Some(&fields(keys, &["dynamodb:LeadingKeys"])["dynamodb:LeadingKeys"])
        };
        Self {
            equals: keys("ForAllValues:StringEquals").map(texts),
            like: keys("ForAllValues:StringLike").map(texts),
            present: keys("Null").map(|null| match null.as_str() {
                Some("false") => true,
                Some("true") => false,
                _ => panic!("Null is \"true\" or \"false\""),
            }),
        }
    }

    fn patterns(&self) -> Vec<String> {
        [&self.equals, &self.like].into_iter().flatten().flatten().cloned().collect()
    }

    fn drop_pattern(&mut self, pattern: &str) {
        for keys in [&mut self.equals, &mut self.like].into_iter().flatten() {
            keys.retain(|other| other != pattern);
        }
    }

    /// The patterns that let `key` through, or that it does not hold.
    fn holds(&self, key: Option<&str>, place: &Place<'_>) -> Option<Vec<String>> {
        if self.present.is_some_and(|present| present != key.is_some()) {
            return None;
        }
        let mut holding = Vec::new();
        for (keys, matches) in [(&self.equals, equal as fn(&str, &str) -> bool), (&self.like, like)] {
            let (Some(keys), Some(key)) = (keys, key) else {
                // `ForAllValues` holds for the values of a key that is not there: there are none.
                continue;
            };
            let fits = |pattern: &&String| place.fill(pattern).iter().any(|pattern| matches(pattern, key));
            let fitting: Vec<String> = keys.iter().filter(fits).cloned().collect();
            if fitting.is_empty() {
                return None;
            }
            holding.extend(fitting);
        }
        Some(holding)
    }
}

fn equal(pattern: &str, key: &str) -> bool {
    pattern == key
}

/// `*` stands for any text, `?` for one character.
fn like(pattern: &str, key: &str) -> bool {
    let mut rest = pattern.chars();
    match rest.next() {
        None => key.is_empty(),
        Some('*') => (0..=key.len()).filter(|at| key.is_char_boundary(*at)).any(|at| like(rest.as_str(), &key[at..])),
        Some(one) => {
            let mut chars = key.chars();
            chars.next().is_some_and(|first| one == '?' || one == first) && like(rest.as_str(), chars.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(action: &str, key: Option<&str>) -> Request {
        Request { action: action.into(), table: "locks".into(), key: key.map(str::to_owned) }
    }

    fn allows(policy: &str, request: &Request) -> bool {
        !Policy::parse(policy).granted(request, &Place { holder: "nightly-billing", names: &["e", "f"] }).is_empty()
    }

    #[test]
    fn a_policy_allows_its_actions_on_its_keys_and_table_alone() {
        let policy = include_str!("../../../iam/candidate.json");
        for (action, key, allowed) in [
            ("GetItem", Some("e"), true),
            ("UpdateItem", Some("f#fence"), true),
            ("UpdateItem", Some("g"), false),
            ("UpdateItem", Some("nightly-billing"), false),
            ("DeleteItem", Some("e"), false),
            ("GetItem", None, false),
            ("Scan", None, false),
            ("DescribeTable", None, true),
        ] {
            assert_eq!(allows(policy, &request(action, key)), allowed, "{action} {key:?}");
        }
        let elsewhere = Request { table: "locks2".into(), ..request("GetItem", Some("e")) };
        assert!(!allows(policy, &elsewhere));
    }

    /// What the `Null` guard is there for.
    #[test]
    fn for_all_values_alone_lets_requests_without_a_key_through() {
        let policy = include_str!("../../../iam/lock-user.json");
        assert!(!allows(policy, &request("GetItem", None)));
        let unguarded = policy.replace(",\n        \"Null\": { \"dynamodb:LeadingKeys\": \"false\" }", "");
        assert!(allows(&unguarded, &request("GetItem", None)));
    }

    #[test]
    fn patterns_are_matched_as_iam_does() {
        for (pattern, key, fits) in [
            ("job*", "job", true),
            ("job*", "job#fence", true),
            ("job*", "my-job", false),
            ("*", "", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a*c*e", "abcde", true),
            ("Job", "job", false),
        ] {
            assert_eq!(like(pattern, key), fits, "{pattern} {key}");
        }
    }

    #[test]
    #[should_panic(expected = "not understood")]
    fn what_is_not_understood_is_refused() {
        Policy::parse(r#"{"Version": "2012-10-17", "Statement": [{"Sid": "A", "Effect": "Allow", "NotAction": []}]}"#);
    }
}
