//! Extends expressions that a user wrote. Reads as much of DynamoDB's language as that takes: where an update's clauses
//! begin, and what they change. Whether the rest makes sense only DynamoDB says.

/// A word (with the `#` or `:` of a placeholder) or a sign.
struct Token<'a> {
    text: &'a str,
    end: usize,
}

fn tokens(expression: &str) -> Vec<Token<'_>> {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut tokens = Vec::new();
    let mut chars = expression.char_indices().peekable();
    while let Some((start, first)) = chars.next() {
        if first.is_whitespace() {
            continue;
        }
        let mut end = start + first.len_utf8();
        if in_word(first) || matches!(first, '#' | ':') {
            while let Some((at, c)) = chars.next_if(|(_, c)| in_word(*c)) {
                end = at + c.len_utf8();
            }
        }
        tokens.push(Token { text: &expression[start..end], end });
    }
    tokens
}

fn is_keyword(word: &str) -> bool {
    ["SET", "REMOVE", "ADD", "DELETE"].iter().any(|keyword| word.eq_ignore_ascii_case(keyword))
}

/// What an update expression does, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Clauses<'a> {
    /// Behind the keyword `SET`.
    set: Option<usize>,
    /// The attributes it changes: names, or placeholders of names.
    pub(crate) targets: Vec<&'a str>,
}

impl<'a> Clauses<'a> {
    pub(crate) fn of(update: &'a str) -> Self {
        let (mut set, mut targets) = (None, Vec::new());
        let mut depth = 0_usize;
        // A clause begins at the start or behind a whole operand; anywhere else its keyword would be a name.
        let mut may_begin = true;
        let mut target_next = false;
        for Token { text, end } in tokens(update) {
            match text {
                "(" | "[" => {
                    depth += 1;
                    may_begin = false;
                }
                ")" | "]" => {
                    depth = depth.saturating_sub(1);
                    may_begin = true;
                }
                "," => {
                    may_begin = false;
                    target_next |= depth == 0;
                }
                sign if !sign.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '#' | ':')) => {
                    may_begin = false;
                }
                keyword if may_begin && depth == 0 && is_keyword(keyword) => {
                    if keyword.eq_ignore_ascii_case("SET") {
                        set = set.or(Some(end));
                    }
                    may_begin = false;
                    target_next = true;
                }
                word => {
                    may_begin = true;
                    if std::mem::take(&mut target_next) {
                        targets.push(word);
                    }
                }
            }
        }
        Self { set, targets }
    }
}

/// `update` with one more assignment, in the clause that it has or in one of its own. The rest stays as it was written.
pub(crate) fn and_set(update: Option<&str>, assignment: &str) -> String {
    let Some(update) = update.filter(|update| !update.trim().is_empty()) else {
        return format!("SET {assignment}");
    };
    match Clauses::of(update).set {
        // First in it and ended by a comma: nothing that follows can become a part of it.
        Some(at) => format!("{} {assignment},{}", &update[..at], &update[at..]),
        None => format!("{update} SET {assignment}"),
    }
}

/// Whether `condition` stays one operand when it is put in parentheses. `a) OR (b` would not.
pub(crate) fn is_closed(condition: &str) -> bool {
    let mut depth = 0_i64;
    for c in condition.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth < 0 {
            return false;
        }
    }
    depth == 0
}

/// Whether a closed `condition` stands in parentheses as a whole. `(a) OR (b)` does not.
fn is_parenthesized(condition: &str) -> bool {
    let inner = condition.trim().strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
    inner.is_some_and(is_closed)
}

/// `condition`, and `ours` besides.
pub(crate) fn and(condition: Option<&str>, ours: &str) -> String {
    match condition {
        // DynamoDB refuses parentheses around parentheses.
        Some(theirs) if is_parenthesized(theirs) => format!("{theirs} AND ({ours})"),
        Some(theirs) => format!("({theirs}) AND ({ours})"),
        None => ours.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OURS: &str = "#f = :f";

    #[test]
    fn an_assignment_joins_the_set_clause_or_gets_one_of_its_own() {
        for (theirs, merged) in [
            (None, "SET #f = :f"),
            (Some(" \t"), "SET #f = :f"),
            (Some("SET a = :a"), "SET #f = :f, a = :a"),
            (Some("set a = :a, b = :b"), "set #f = :f, a = :a, b = :b"),
            (Some("\n  Set\n    a = :a"), "\n  Set #f = :f,\n    a = :a"),
            (Some("SET#a=:a"), "SET #f = :f,#a=:a"),
            (Some("REMOVE a"), "REMOVE a SET #f = :f"),
            (Some("REMOVE a.b[0] SET c = :c"), "REMOVE a.b[0] SET #f = :f, c = :c"),
            (Some("ADD n :one DELETE tags :t"), "ADD n :one DELETE tags :t SET #f = :f"),
            // Keywords that are none: in placeholders, longer words, paths, functions, and where an operand is due.
            (Some("REMOVE #set, #SET"), "REMOVE #set, #SET SET #f = :f"),
            (Some("ADD n :set"), "ADD n :set SET #f = :f"),
            (Some("REMOVE offset, settings, set_, _set"), "REMOVE offset, settings, set_, _set SET #f = :f"),
            (Some("REMOVE info.set, list[1].set"), "REMOVE info.set, list[1].set SET #f = :f"),
            (Some("REMOVE set"), "REMOVE set SET #f = :f"),
            (
                Some("SET l = list_append(if_not_exists(set, :e), :set) ADD n :one"),
                "SET #f = :f, l = list_append(if_not_exists(set, :e), :set) ADD n :one",
            ),
            (Some("REMOVE été SET a = :a"), "REMOVE été SET #f = :f, a = :a"),
            // Not sound, and refused by DynamoDB before and after.
            (Some("REMOVE a,"), "REMOVE a, SET #f = :f"),
            (Some("a = :a"), "a = :a SET #f = :f"),
        ] {
            assert_eq!(and_set(theirs, OURS), merged, "{theirs:?}");
        }
    }

    #[test]
    fn what_an_update_changes_is_read_off_it() {
        for (update, targets) in [
            ("SET a = b, #c = if_not_exists(d, :d) + :e", vec!["a", "#c"]),
            ("set a.b[0].c = :x remove d[1], #e.f add g :g delete h :h", vec!["a", "d", "#e", "g", "h"]),
            ("SET l = list_append(a, :b), m = :m", vec!["l", "m"]),
            ("SET remove = :x, add_ = remove REMOVE delete", vec!["remove", "add_", "delete"]),
            ("", vec![]),
        ] {
            assert_eq!(Clauses::of(update).targets, targets, "{update}");
        }
    }

    #[test]
    fn a_condition_stays_one_operand() {
        assert_eq!(and(None, "ours"), "ours");
        assert_eq!(and(Some("a = :a OR b = :b"), "ours"), "(a = :a OR b = :b) AND (ours)");
        for (theirs, merged) in [
            ("(a OR b)", "(a OR b) AND (ours)"),
            (" (a OR (b))\n", " (a OR (b))\n AND (ours)"),
            ("(a) OR (b)", "((a) OR (b)) AND (ours)"),
            ("NOT (a)", "(NOT (a)) AND (ours)"),
            ("f(a)", "(f(a)) AND (ours)"),
        ] {
            assert_eq!(and(Some(theirs), "ours"), merged);
        }
        for closed in ["a", "(a)", "a IN (:a) OR (b AND (c))", ""] {
            assert!(is_closed(closed), "{closed}");
        }
        // `(a) OR (b) AND (ours)` would hold where `a` does.
        for open in ["a) OR (b", "(a", "a)", ")(", "a)("] {
            assert!(!is_closed(open), "{open}");
        }
    }

    /// A name as users write them, among them those that look like keywords.
    fn name() -> impl Strategy<Value = String> {
        prop_oneof![
            "[#a-z_][a-zA-Z0-9_]{0,6}".prop_filter("no bare keyword", |name| name != "#" && !is_keyword(name)),
            prop::sample::select(vec![
                "#set",
                "#SET",
                "#add",
                "offset",
                "settings",
                "SETs",
                "_delete",
                "a.set",
                "b.REMOVE.c",
                "l[0].Add"
            ])
            .prop_map(str::to_owned),
        ]
    }

    fn value() -> impl Strategy<Value = String> {
        prop_oneof![":[a-zA-Z0-9_]{1,6}", prop::sample::select(vec![":set", ":REMOVE"]).prop_map(str::to_owned)]
    }

    fn space() -> impl Strategy<Value = String> {
        prop::sample::select(vec![" ", "  ", "\n", "\t ", " \r\n  "]).prop_map(str::to_owned)
    }

    fn operand() -> impl Strategy<Value = String> {
        prop_oneof![
            name(),
            value(),
            (name(), value()).prop_map(|(name, value)| format!("{name} + {value}")),
            (name(), value()).prop_map(|(name, value)| format!("if_not_exists({name}, {value})")),
            (name(), value()).prop_map(|(name, value)| format!("list_append(if_not_exists({name},{value}), {value})")),
        ]
    }

    /// A clause: its keyword in any case, and what follows it.
    fn clause(keyword: &'static str) -> impl Strategy<Value = (String, String)> {
        let action = match keyword {
            "SET" => (name(), operand()).prop_map(|(name, operand)| format!("{name}={operand}")).boxed(),
            "REMOVE" => name().boxed(),
            _ => (name(), value()).prop_map(|(name, value)| format!("{name} {value}")).boxed(),
        };
        let cased = prop::collection::vec(any::<bool>(), keyword.len()).prop_map(move |upper| {
            let case = |(c, upper): (char, bool)| if upper { c } else { c.to_ascii_lowercase() };
            keyword.chars().zip(upper).map(case).collect::<String>()
        });
        let actions = (space(), prop::collection::vec(action, 1..4), prop::sample::select(vec![",", ", ", " ,\n"]));
        (cased, actions)
            .prop_map(|(keyword, (space, actions, comma))| (keyword, format!("{space}{}", actions.join(comma))))
    }

    fn update() -> impl Strategy<Value = Vec<(String, String)>> {
        let all = (clause("SET"), clause("REMOVE"), clause("ADD"), clause("DELETE"));
        let all = all.prop_map(|(set, remove, add, delete)| vec![set, remove, add, delete]);
        (all.prop_shuffle(), 0_usize..=4).prop_map(|(mut clauses, count)| {
            clauses.truncate(count);
            clauses
        })
    }

    proptest! {
        /// Whatever clauses a user wrote: each is there once afterwards, ours is there once, theirs is unchanged otherwise.
        #[test]
        fn whatever_the_clauses_are_ours_is_set_once_and_theirs_stay(clauses in update(), space in space()) {
            let write = |clauses: &[(String, String)]| {
                clauses.iter().map(|(keyword, rest)| format!("{keyword}{rest}")).collect::<Vec<_>>().join(&space)
            };
            let theirs = write(&clauses);
            let mut expected = clauses.clone();
            match expected.iter_mut().find(|(keyword, _)| keyword.eq_ignore_ascii_case("SET")) {
                Some((_, rest)) => *rest = format!(" {OURS},{rest}"),
                None if clauses.is_empty() => expected.push(("SET".into(), format!(" {OURS}"))),
                None => {
                    let (_, last) = expected.last_mut().unwrap();
                    last.push_str(&format!(" SET {OURS}"));
                }
            }
            let merged = and_set(Some(&theirs), OURS);
            prop_assert_eq!(&merged, &write(&expected));
            prop_assert_eq!(merged.matches(OURS).count(), 1);
            let mut targets = Clauses::of(&theirs).targets;
            targets.push("#f");
            targets.sort_unstable();
            let mut after = Clauses::of(&merged).targets;
            after.sort_unstable();
            prop_assert_eq!(after, targets, "one attribute more is changed, and it is ours");
        }

        /// Nothing that anybody may write makes it panic, lose what was written, or break a character.
        #[test]
        fn any_text_survives(theirs in "\\PC*") {
            let merged = and_set(Some(&theirs), OURS);
            let without = merged.replacen(&format!(" {OURS},"), "", 1);
            prop_assert!(without == theirs || merged == format!("{theirs} SET {OURS}") || theirs.trim().is_empty(), "{merged}");
        }
    }
}
