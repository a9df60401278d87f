//! What authorization webhooks have said, for as long as they are taken at their word.

use std::collections::HashMap;

use kubecore_core::authn::UserInfo;
use kubecore_core::rbac::Attributes;
use parking_lot::RwLock;

/// As upstream's cache of a webhook.
const LIMIT: usize = 8192;
/// What is asked with more text than this is asked each time, so that nobody fills the memory.
const LONGEST: usize = 10_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opinion {
    Allow(String),
    Deny(String),
    None(String),
}

/// What a list or watch selects, as the client wrote it; empty for other verbs.
#[derive(Clone, Debug, Default)]
pub struct Selectors {
    pub field: String,
    pub label: String,
}

/// A question, written so that no two are the same text.
pub struct Question(Box<[u8]>);

impl Question {
    /// None for one that is too long to be remembered.
    pub fn of(
        webhook: usize,
        user: &UserInfo,
        attributes: &Attributes<'_>,
        selectors: &Selectors,
    ) -> Option<Self> {
        let mut text = Vec::with_capacity(256);
        put_number(&mut text, webhook);
        for part in [&user.username, &user.uid] {
            put(&mut text, part);
        }
        put_number(&mut text, user.groups.len());
        user.groups.iter().for_each(|group| put(&mut text, group));
        put_number(&mut text, user.extra.len());
        for (key, values) in &user.extra {
            put(&mut text, key);
            put_number(&mut text, values.len());
            values.iter().for_each(|value| put(&mut text, value));
        }
        let asked = if attributes.is_resource {
            [
                attributes.verb,
                attributes.group,
                attributes.version,
                attributes.resource,
                attributes.subresource,
                attributes.namespace,
                attributes.name,
                &selectors.field,
                &selectors.label,
            ]
        } else {
            [attributes.verb, attributes.path, "", "", "", "", "", "", ""]
        };
        text.push(u8::from(attributes.is_resource));
        asked.into_iter().for_each(|part| put(&mut text, part));
        (text.len() <= LONGEST).then(|| Self(text.into_boxed_slice()))
    }
}

fn put_number(text: &mut Vec<u8>, number: usize) {
    text.extend_from_slice(&(number as u64).to_le_bytes());
}

fn put(text: &mut Vec<u8>, part: &str) {
    put_number(text, part.len());
    text.extend_from_slice(part.as_bytes());
}

/// With the Unix seconds until which it counts.
type Lasting = (Opinion, f64);

#[derive(Default)]
pub struct Opinions(RwLock<HashMap<Box<[u8]>, Lasting>>);

impl Opinions {
    pub fn get(&self, question: &Question, now: f64) -> Option<Opinion> {
        let known = self.0.read();
        let (opinion, until) = known.get(&question.0)?;
        (*until > now).then(|| opinion.clone())
    }

    pub fn put(&self, question: Question, opinion: Opinion, until: f64, now: f64) {
        let mut known = self.0.write();
        if known.len() >= LIMIT {
            known.retain(|_, (_, until)| *until > now);
        }
        if known.len() >= LIMIT {
            known.clear();
        }
        known.insert(question.0, (opinion, until));
    }

    pub fn clear(&self) {
        self.0.write().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(user: &UserInfo, verb: &'static str, field: &str) -> Question {
        let attributes = Attributes { verb, resource: "pods", is_resource: true, ..Attributes::default() };
        let selectors = Selectors { field: field.into(), label: String::new() };
        Question::of(0, user, &attributes, &selectors).unwrap()
    }

    #[test]
    fn an_opinion_is_for_one_question_and_a_time() {
        let (jane, known) = (UserInfo::new("jane", &["a", "b"]), Opinions::default());
        known.put(question(&jane, "list", "x=1"), Opinion::Allow(String::new()), 10.0, 0.0);
        assert_eq!(known.get(&question(&jane, "list", "x=1"), 9.0), Some(Opinion::Allow(String::new())));
        assert_eq!(known.get(&question(&jane, "list", "x=1"), 10.0), None);
        assert_eq!(known.get(&question(&jane, "list", "x=2"), 9.0), None);
        assert_eq!(known.get(&question(&jane, "watch", "x=1"), 9.0), None);
        assert_eq!(known.get(&question(&UserInfo::new("jane", &["ab"]), "list", "x=1"), 9.0), None);
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let (jane, known) = (UserInfo::new("jane", &[]), Opinions::default());
        for number in 0..=LIMIT {
            known.put(question(&jane, "list", &number.to_string()), Opinion::None(String::new()), 10.0, 0.0);
        }
        assert!(known.0.read().len() <= LIMIT);
        let long = "x".repeat(LONGEST);
        let attributes = Attributes { verb: "get", path: &long, ..Attributes::default() };
        assert!(Question::of(0, &jane, &attributes, &Selectors::default()).is_none());
    }
}
