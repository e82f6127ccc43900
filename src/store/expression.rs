//! Expressions: every name and every value a placeholder, nothing built by joining user text.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;

use super::record::{attribute, stamp};
use super::{DataChange, Fill, TokenChange};
use crate::protocol::{Version, Write, WriteKind, Writer};

/// The placeholders of one request.
#[derive(Debug)]
pub(super) struct Expression {
    pub(super) update: String,
    pub(super) condition: String,
    pub(super) names: HashMap<String, String>,
    pub(super) values: HashMap<String, AttributeValue>,
    set: String,
    remove: String,
}

impl Expression {
    /// With room for what a heartbeat needs, so that nothing has to grow in it.
    fn new() -> Self {
        const PLACEHOLDERS: usize = 7;
        const CHANGES: usize = 96;
        Self {
            update: String::new(),
            condition: String::new(),
            names: HashMap::with_capacity(PLACEHOLDERS),
            values: HashMap::with_capacity(PLACEHOLDERS),
            set: String::with_capacity(CHANGES),
            remove: String::new(),
        }
    }

    /// The update and the condition of a write (R3).
    pub(super) fn of(write: &Write, fill: &Fill, partition_key: &str) -> Self {
        let mut this = Self::new();
        this.condition(write, partition_key);
        if !(write.kind == WriteKind::Release && fill.delete_on_release) {
            this.changes(write, fill);
            this.finish();
        }
        this
    }

    /// `version IN (…)`, for a renewal only while nobody released the record, for a creation also when absent.
    fn condition(&mut self, write: &Write, partition_key: &str) {
        let mut versions = String::with_capacity(32);
        for (index, version) in write.names.iter().enumerate() {
            let placeholder = format!(":known{index}");
            comma(&mut versions).push_str(&placeholder);
            self.values.insert(placeholder, text(version.as_str()));
        }
        self.name("#version", attribute::VERSION);
        let named = format!("#version IN ({versions})");
        self.condition = match write.kind {
            WriteKind::Renew => {
                self.name("#released", attribute::RELEASED);
                format!("{named} AND attribute_not_exists(#released)")
            }
            _ if write.or_absent => {
                self.name("#key", partition_key);
                format!("attribute_not_exists(#key) OR {named}")
            }
            WriteKind::Claim { .. } | WriteKind::Release => named,
        };
    }

    fn changes(&mut self, write: &Write, fill: &Fill) {
        self.version(&write.version);
        match write.kind {
            WriteKind::Claim { token } => {
                self.set("#owner", attribute::OWNER, ":owner", text(&*fill.owner));
                self.set("#acquired", attribute::ACQUIRED_AT, ":acquired", text(&*fill.acquired_at));
                match fill.token {
                    TokenChange::Keep => {}
                    TokenChange::Set => self.token(token),
                    TokenChange::Forget => self.remove("#token", attribute::TOKEN),
                }
                self.remove("#released", attribute::RELEASED);
                self.schedule(write, fill);
                // What the holder before planned would mislead followers.
                if write.plan.heartbeat.is_none() {
                    self.remove("#heartbeat", attribute::HEARTBEAT);
                }
                self.remove("#ending", attribute::ENDING);
                for (index, (name, value)) in fill.attributes.iter().enumerate() {
                    self.set(&format!("#more{index}"), name, &format!(":more{index}"), value.clone());
                }
            }
            // R1: every renewal sets the whole desired state.
            WriteKind::Renew => {
                self.schedule(write, fill);
                if let Some(token) = fill.sealed {
                    self.token(token);
                }
            }
            WriteKind::Release => {
                self.released();
                match (fill.sealed, fill.token) {
                    (Some(token), _) => self.token(token),
                    // A claim that is taken back may never have been applied: our stamp must not vouch for what was there.
                    (None, TokenChange::Forget) => self.remove("#token", attribute::TOKEN),
                    (None, TokenChange::Keep | TokenChange::Set) => {}
                }
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
        self.set("#lease", attribute::LEASE, ":lease", text(fill.text.format(write.lease)));
        let millis = |time: Duration| AttributeValue::N(time.as_millis().to_string());
        if let Some(heartbeat) = write.plan.heartbeat {
            self.set("#heartbeat", attribute::HEARTBEAT, ":heartbeat", millis(heartbeat));
        }
        if let Some(ending) = write.plan.ending {
            self.set("#ending", attribute::ENDING, ":ending", millis(ending));
        }
    }

    fn version(&mut self, version: &Version) {
        self.set("#version", attribute::VERSION, ":version", text(version.as_str()));
        self.set("#stamp", attribute::STAMP, ":stamp", text(stamp(version)));
    }

    fn token(&mut self, token: u64) {
        // R6: SET, never ADD: a duplicate must not count twice.
        self.set("#token", attribute::TOKEN, ":token", AttributeValue::N(token.to_string()));
    }

    fn released(&mut self) {
        // Exactly the text "1": any other value makes the record unacquirable for the Java client.
        self.set("#released", attribute::RELEASED, ":released", text("1"));
    }

    /// What an operator writes: the record released, whoever holds it, as long as it is at the version that was seen.
    ///
    /// A holder of ours notices the mark by itself (R3). A client of another make does not look at it when it
    /// renews, so its version is changed under it, by `anew`. Without our stamp: what that client left in our attributes
    /// must not be believed now, and may not even be readable.
    pub(super) fn force_release(seen: &Version, anew: Option<&Version>) -> Self {
        let mut this = Self::new();
        this.only_at(text(seen.as_str()), anew.is_some());
        if let Some(version) = anew {
            this.set("#version", attribute::VERSION, ":version", text(version.as_str()));
        }
        this.released();
        this.finish();
        this
    }

    /// What an operator writes: a released record in place of one that could not be read.
    pub(super) fn repair(mend: &Mend, version: &Version, partition_key: &str) -> Self {
        let mut this = Self::new();
        match &mend.seen {
            Some(seen) => this.only_at(seen.clone(), true),
            None => {
                this.name("#version", attribute::VERSION);
                this.name("#key", partition_key);
                this.condition =
                    "(attribute_not_exists(#version) AND attribute_exists(#key)) OR #version = :version".into();
            }
        }
        this.version(version);
        this.released();
        if let Some(owner) = &mend.owner {
            this.set("#owner", attribute::OWNER, ":owner", text(owner));
        }
        if let Some(lease) = &mend.lease {
            this.set("#lease", attribute::LEASE, ":lease", text(lease));
        }
        if let Some(token) = mend.token {
            this.token(token);
        }
        for (index, name) in mend.remove.iter().enumerate() {
            this.remove(&format!("#bad{index}"), name);
        }
        this.finish();
        this
    }

    /// What an operator writes: all but the token's floor taken out of a record that is released and stays so.
    ///
    /// Our stamp goes only where it was: what another client wrote back may be an old number, and nobody vouches for it.
    pub(super) fn retire(seen: &Version, writer: Writer, version: &Version, remove: &[String]) -> Self {
        let mut this = Self::new();
        this.only_at(text(seen.as_str()), true);
        this.name("#released", attribute::RELEASED);
        this.condition.push_str(" AND attribute_exists(#released)");
        match writer {
            Writer::Ours => this.version(version),
            Writer::Foreign | Writer::Newer => {
                this.set("#version", attribute::VERSION, ":version", text(version.as_str()));
            }
        }
        for (index, name) in remove.iter().enumerate() {
            this.remove(&format!("#old{index}"), name);
        }
        this.finish();
        this
    }

    /// Seals the fence record with a token above all before it. `version` tells our own write, whose reply
    /// was lost, from another's with the same number.
    pub(super) fn seal(token: u64, version: &Version, owner: &str, lease: &str) -> Self {
        let mut this = Self::new();
        this.token(token);
        this.set("#version", attribute::VERSION, ":version", text(version.as_str()));
        // The rest is there so that listings of other clients do not trip over it.
        this.set("#owner", attribute::OWNER, ":owner", text(owner));
        this.set("#lease", attribute::LEASE, ":lease", text(lease));
        this.released();
        this.condition = "attribute_not_exists(#token) OR #token < :token OR #version = :version".into();
        this.finish();
        this
    }

    /// Holds while `token` is the number that was sealed last.
    pub(super) fn sealed(token: u64) -> Self {
        let mut this = Self::new();
        this.name("#token", attribute::TOKEN);
        this.values.insert(":token".into(), AttributeValue::N(token.to_string()));
        this.condition = "#token = :token".into();
        this
    }

    /// The version that was seen, and where it is changed the write's own: an SDK's second attempt must recognise the first (R3).
    fn only_at(&mut self, seen: AttributeValue, changes: bool) {
        self.name("#version", attribute::VERSION);
        self.values.insert(":seen".into(), seen);
        self.condition = if changes { "#version IN (:seen, :version)" } else { "#version IN (:seen)" }.into();
    }

    fn name(&mut self, placeholder: &str, name: &str) {
        self.names.insert(placeholder.to_owned(), name.to_owned());
    }

    fn set(&mut self, placeholder: &str, name: &str, value_placeholder: &str, value: AttributeValue) {
        self.name(placeholder, name);
        self.values.insert(value_placeholder.to_owned(), value);
        comma(&mut self.set).extend([placeholder, " = ", value_placeholder]);
    }

    fn remove(&mut self, placeholder: &str, name: &str) {
        self.name(placeholder, name);
        comma(&mut self.remove).push_str(placeholder);
    }

    fn finish(&mut self) {
        self.update = format!("SET {}", self.set);
        if !self.remove.is_empty() {
            self.update.extend([" REMOVE ", &self.remove]);
        }
    }
}

fn text(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

/// A list, ready for what comes next in it.
fn comma(list: &mut String) -> &mut String {
    if !list.is_empty() {
        list.push_str(", ");
    }
    list
}

/// What a damaged record needs to be a lock record again.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Mend {
    /// The version it has, whatever that is.
    pub(crate) seen: Option<AttributeValue>,
    pub(crate) owner: Option<String>,
    pub(crate) lease: Option<String>,
    pub(crate) token: Option<u64>,
    pub(crate) remove: Vec<&'static str>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Plan, Version};

    fn fill() -> Fill {
        Fill {
            owner: "owner SET #x".into(),
            attributes: vec![("team SET".into(), AttributeValue::S("blue".into()))],
            data: DataChange::Set(b"hello".to_vec()),
            ..Fill::plain()
        }
    }

    fn write(kind: WriteKind, or_absent: bool) -> Write {
        let names = ["old", "new"].map(Version::new).into_iter().collect();
        let plan = Plan { heartbeat: Some(Duration::from_millis(2_500)), ending: None };
        Write { kind, version: Version::new("new"), names, or_absent, lease: Duration::from_secs(10), plan }
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
    fn a_claim_without_a_token_leaves_none_that_could_be_believed() {
        let forgets = Fill { token: TokenChange::Forget, ..fill() };
        let expression = Expression::of(&write(WriteKind::Claim { token: 7 }, false), &forgets, "key");
        assert!(expression.update.contains("REMOVE #token, #released"), "{}", expression.update);
        assert!(!expression.values.contains_key(":token"));
    }

    #[test]
    fn no_user_text_reaches_an_expression_and_every_placeholder_is_used() {
        let kinds = [WriteKind::Claim { token: 7 }, WriteKind::Renew, WriteKind::Release];
        for (kind, or_absent) in kinds.into_iter().flat_map(|kind| [(kind, false), (kind, true)]) {
            let expression = Expression::of(&write(kind, or_absent), &fill(), "key");
            let text = format!("{} {}", expression.update, expression.condition);
            for user in ["owner SET", "team", "blue", "old", "hello", "ownerName", "recordVersionNumber"] {
                assert!(!text.contains(user), "{text}");
            }
            for placeholder in expression.names.keys().chain(expression.values.keys()) {
                assert!(text.contains(placeholder.as_str()), "{placeholder} unused in {text}");
            }
        }
    }

    #[test]
    fn what_operators_write_names_the_version_that_was_seen() {
        let (seen, new) = (Version::new("seen"), Version::new("new"));
        let mend = Mend { seen: Some(AttributeValue::N("1".into())), remove: vec!["data"], ..Mend::default() };
        let blind =
            Mend { owner: Some("repaired".into()), lease: Some("10s".into()), token: Some(3), ..Mend::default() };
        for (expression, condition) in [
            (Expression::force_release(&seen, None), "#version IN (:seen)"),
            (Expression::force_release(&seen, Some(&new)), "#version IN (:seen, :version)"),
            (Expression::repair(&mend, &new, "key"), "#version IN (:seen, :version)"),
            (
                Expression::repair(&blind, &new, "key"),
                "(attribute_not_exists(#version) AND attribute_exists(#key)) OR #version = :version",
            ),
            (
                Expression::retire(&seen, Writer::Ours, &new, &["team".into()]),
                "#version IN (:seen, :version) AND attribute_exists(#released)",
            ),
        ] {
            assert_eq!(expression.condition, condition);
            let text = format!("{} {}", expression.update, expression.condition);
            for placeholder in expression.names.keys().chain(expression.values.keys()) {
                assert!(text.contains(placeholder.as_str()), "{placeholder} unused in {text}");
            }
        }
    }

    #[test]
    fn a_delete_has_a_condition_and_no_update() {
        let deleting = Fill { delete_on_release: true, token: TokenChange::Keep, ..fill() };
        let expression = Expression::of(&write(WriteKind::Release, false), &deleting, "key");
        assert!(expression.update.is_empty());
        assert_eq!(expression.names.len(), 1);
    }
}
