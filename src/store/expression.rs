//! Expressions: every name and every value a placeholder, nothing built by joining user text.

use std::collections::HashMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;

use super::record::{attribute, stamp};
use super::{DataChange, Fill};
use crate::protocol::{Write, WriteKind};

/// The placeholders of one request.
#[derive(Debug, Default)]
pub(super) struct Expression {
    pub(super) update: String,
    pub(super) condition: String,
    pub(super) names: HashMap<String, String>,
    pub(super) values: HashMap<String, AttributeValue>,
    set: Vec<String>,
    remove: Vec<String>,
}

impl Expression {
    /// The update and the condition of a write (R3).
    pub(super) fn of(write: &Write, fill: &Fill, partition_key: &str) -> Self {
        let mut this = Self::default();
        this.condition(write, partition_key);
        if !(write.kind == WriteKind::Release && fill.delete_on_release) {
            this.changes(write, fill);
            this.finish();
        }
        this
    }

    /// `version IN (…)`, for a renewal only while nobody released the record, for a creation also when absent.
    fn condition(&mut self, write: &Write, partition_key: &str) {
        let versions: Vec<String> = write
            .names
            .iter()
            .enumerate()
            .map(|(index, version)| {
                let placeholder = format!(":known{index}");
                self.values.insert(placeholder.clone(), AttributeValue::S(version.as_str().to_owned()));
                placeholder
            })
            .collect();
        let version = self.name("#version", attribute::VERSION);
        let named = format!("{version} IN ({})", versions.join(", "));
        self.condition = match write.kind {
            WriteKind::Renew => {
                let released = self.name("#released", attribute::RELEASED);
                format!("{named} AND attribute_not_exists({released})")
            }
            _ if write.or_absent => {
                let key = self.name("#key", partition_key);
                format!("attribute_not_exists({key}) OR {named}")
            }
            WriteKind::Claim { .. } | WriteKind::Release => named,
        };
    }

    fn changes(&mut self, write: &Write, fill: &Fill) {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        self.set("#version", attribute::VERSION, ":version", text(write.version.as_str()));
        self.set("#stamp", attribute::STAMP, ":stamp", text(&stamp(&write.version)));
        match write.kind {
            WriteKind::Claim { token } => {
                self.set("#owner", attribute::OWNER, ":owner", text(&fill.owner));
                self.set("#acquired", attribute::ACQUIRED_AT, ":acquired", text(&fill.acquired_at));
                if fill.fencing {
                    // R6: SET, never ADD: a duplicate must not count twice.
                    self.set("#token", attribute::TOKEN, ":token", AttributeValue::N(token.to_string()));
                }
                self.remove("#released", attribute::RELEASED);
                self.schedule(write, fill);
            }
            // R1: every renewal sets the whole desired state.
            WriteKind::Renew => self.schedule(write, fill),
            WriteKind::Release => {
                // Exactly the text "1": any other value makes the record unacquirable for the Java client.
                self.set("#released", attribute::RELEASED, ":released", text("1"));
                return;
            }
        }
        match &fill.data {
            DataChange::Keep => {}
            DataChange::Set(data) => {
                self.set("#data", attribute::DATA, ":data", AttributeValue::B(Blob::new(data.clone())));
            }
            DataChange::Clear => self.remove("#data", attribute::DATA),
        }
    }

    fn schedule(&mut self, write: &Write, fill: &Fill) {
        self.set("#lease", attribute::LEASE, ":lease", AttributeValue::S(fill.text.format(write.lease)));
        let heartbeat = AttributeValue::N(fill.heartbeat.as_millis().to_string());
        self.set("#heartbeat", attribute::HEARTBEAT, ":heartbeat", heartbeat);
    }

    fn name(&mut self, placeholder: &str, name: &str) -> String {
        self.names.insert(placeholder.to_owned(), name.to_owned());
        placeholder.to_owned()
    }

    fn set(&mut self, placeholder: &str, name: &str, value_placeholder: &str, value: AttributeValue) {
        let name = self.name(placeholder, name);
        self.values.insert(value_placeholder.to_owned(), value);
        self.set.push(format!("{name} = {value_placeholder}"));
    }

    fn remove(&mut self, placeholder: &str, name: &str) {
        let name = self.name(placeholder, name);
        self.remove.push(name);
    }

    fn finish(&mut self) {
        self.update = format!("SET {}", self.set.join(", "));
        if !self.remove.is_empty() {
            self.update = format!("{} REMOVE {}", self.update, self.remove.join(", "));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::protocol::Version;
    use crate::store::DurationText;

    fn fill() -> Fill {
        Fill {
            owner: "owner SET #x".into(),
            text: DurationText::Go,
            heartbeat: Duration::from_millis(2_500),
            data: DataChange::Set(b"hello".to_vec()),
            acquired_at: "2026-01-01T00:00:00Z".into(),
            fencing: true,
            delete_on_release: false,
        }
    }

    fn write(kind: WriteKind, or_absent: bool) -> Write {
        let names = vec![Version::new("old"), Version::new("new")];
        Write { kind, version: Version::new("new"), names, or_absent, lease: Duration::from_secs(10) }
    }

    #[test]
    fn conditions_are_those_of_the_protocol() {
        let of = |kind, or_absent| Expression::of(&write(kind, or_absent), &fill(), "key").condition;
        assert_eq!(of(WriteKind::Renew, false), "#version IN (:known0, :known1) AND attribute_not_exists(#released)");
        assert_eq!(of(WriteKind::Release, false), "#version IN (:known0, :known1)");
        assert_eq!(of(WriteKind::Claim { token: 2 }, false), "#version IN (:known0, :known1)");
        assert_eq!(
            of(WriteKind::Claim { token: 1 }, true),
            "attribute_not_exists(#key) OR #version IN (:known0, :known1)"
        );
    }

    #[test]
    fn a_claim_sets_ours_removes_the_release_and_adds_nothing() {
        let expression = Expression::of(&write(WriteKind::Claim { token: 7 }, false), &fill(), "key");
        assert!(expression.update.contains("REMOVE #released"), "{}", expression.update);
        assert!(!expression.update.contains("ADD"), "{}", expression.update);
        assert_eq!(expression.values[":token"], AttributeValue::N("7".into()));
        assert_eq!(expression.values[":lease"], AttributeValue::S("10s".into()));
        assert_eq!(expression.values[":stamp"], AttributeValue::S("1:new".into()));
    }

    #[test]
    fn no_user_text_reaches_an_expression_and_every_placeholder_is_used() {
        let kinds = [WriteKind::Claim { token: 7 }, WriteKind::Renew, WriteKind::Release];
        for (kind, or_absent) in kinds.into_iter().flat_map(|kind| [(kind, false), (kind, true)]) {
            let expression = Expression::of(&write(kind, or_absent), &fill(), "key");
            let text = format!("{} {}", expression.update, expression.condition);
            for user in ["owner SET", "old", "hello", "ownerName", "recordVersionNumber"] {
                assert!(!text.contains(user), "{text}");
            }
            for placeholder in expression.names.keys().chain(expression.values.keys()) {
                assert!(text.contains(placeholder.as_str()), "{placeholder} unused in {text}");
            }
        }
    }

    #[test]
    fn a_delete_has_a_condition_and_no_update() {
        let deleting = Fill { delete_on_release: true, fencing: false, ..fill() };
        let expression = Expression::of(&write(WriteKind::Release, false), &deleting, "key");
        assert!(expression.update.is_empty());
        assert_eq!(expression.names.len(), 1);
    }
}
