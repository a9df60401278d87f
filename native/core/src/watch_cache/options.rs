//! The query parameters of lists and watches: k8s.io/apimachinery `metav1.ListOptions`, its conversions and its
//! validation (`pkg/apis/meta/internalversion/validation`).

use std::num::{IntErrorKind, ParseIntError};

use super::filter::Filter;
use super::list::{At, ListQuery};
use super::resource::ResourceInfo;
use super::token::ContinueToken;
use super::watch::{Start, WatchQuery};
use crate::go::quote;
use crate::selector::{FieldRequirement, FieldSelector, LabelSelector};
use crate::status::{Cause, Status};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    Exact,
    NotOlderThan,
}

/// Parameters read and checked, selectors parsed; not yet held against a resource.
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    pub watch: bool,
    pub limit: usize,
    pub continue_token: String,
    /// As sent: empty is not the same as "0".
    pub resource_version: String,
    pub resource_version_match: Option<Match>,
    pub labels: LabelSelector,
    pub fields: FieldSelector,
    pub allow_watch_bookmarks: bool,
    pub send_initial_events: Option<bool>,
    /// 0: the server chooses; less than that is over before it began.
    pub timeout_seconds: i64,
    pub pretty: bool,
}

impl ReadOptions {
    /// From the raw query string; unknown parameters are ignored. 400 for what cannot be read, 422 for what does not
    /// go together.
    pub fn parse(query: &str) -> Result<Self, Status> {
        let mut options = Self::default();
        let mut matching = None;
        let mut seen = Vec::new();
        for (key, value) in pairs(query) {
            // As in Go's url.Values.Get, the first of several counts.
            if seen.contains(&key) {
                continue;
            }
            match key.as_str() {
                "watch" => options.watch = truth(&value),
                "limit" => options.limit = usize::try_from(integer(&value)?).unwrap_or(0),
                "continue" => options.continue_token.clone_from(&value),
                "resourceVersion" => options.resource_version.clone_from(&value),
                "resourceVersionMatch" => matching = Some(value.clone()).filter(|value| !value.is_empty()),
                "labelSelector" => options.labels = LabelSelector::parse(&value).map_err(bad)?,
                "fieldSelector" => options.fields = FieldSelector::parse(&value).map_err(bad)?,
                "allowWatchBookmarks" => options.allow_watch_bookmarks = truth(&value),
                "sendInitialEvents" => options.send_initial_events = Some(truth(&value)),
                "timeoutSeconds" => options.timeout_seconds = integer(&value)?,
                "pretty" => options.pretty = truth(&value),
                _ => {}
            }
            seen.push(key);
        }
        if options.watches_from_the_state(matching.as_deref()) {
            options.send_initial_events = Some(true);
            matching = Some("NotOlderThan".into());
        }
        options.check(matching.as_deref())?;
        options.resource_version_match = match matching.as_deref() {
            Some("Exact") => Some(Match::Exact),
            Some(_) => Some(Match::NotOlderThan),
            None => None,
        };
        Ok(options)
    }

    /// A watch that says nothing, or 0, of where it begins is one that sends what there is first, and where bookmarks
    /// are asked for says when that is over (metainternalversion.SetListOptionsDefaults).
    fn watches_from_the_state(&self, matching: Option<&str>) -> bool {
        self.watch
            && self.send_initial_events.is_none()
            && matching.is_none()
            && matches!(self.resource_version.as_str(), "" | "0")
    }

    fn check(&self, matching: Option<&str>) -> Result<(), Status> {
        let causes = if self.watch { self.watch_problems(matching) } else { self.list_problems(matching) };
        if causes.is_empty() {
            Ok(())
        } else {
            Err(Status::invalid("meta.k8s.io", "ListOptions", "", causes))
        }
    }

    fn list_problems(&self, matching: Option<&str>) -> Vec<Cause> {
        let mut causes = Vec::new();
        if let Some(matching) = matching {
            if self.resource_version.is_empty() {
                causes.push(forbidden(
                    MATCH,
                    "resourceVersionMatch is forbidden unless resourceVersion is provided",
                ));
            }
            if !self.continue_token.is_empty() {
                causes.push(forbidden(MATCH, "resourceVersionMatch is forbidden when continue is provided"));
            }
            if !matches!(matching, "Exact" | "NotOlderThan") {
                causes.push(unsupported(matching, &["Exact", "NotOlderThan", ""]));
            }
            if matching == "Exact" && self.resource_version == "0" {
                let why = r#"resourceVersionMatch "exact" is forbidden for resourceVersion "0""#;
                causes.push(forbidden(MATCH, why));
            }
        }
        if self.send_initial_events.is_some() {
            causes.push(forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
        }
        causes
    }

    fn watch_problems(&self, matching: Option<&str>) -> Vec<Cause> {
        let mut causes = Vec::new();
        if self.send_initial_events.is_some() && matching != Some("NotOlderThan") {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            causes.push(forbidden(MATCH, why));
        }
        if let Some(matching) = matching {
            if self.send_initial_events.is_none() {
                let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
                causes.push(forbidden(MATCH, why));
            }
            if matching != "NotOlderThan" {
                causes.push(unsupported(matching, &["NotOlderThan"]));
            }
            if !self.continue_token.is_empty() {
                causes.push(forbidden(MATCH, "resourceVersionMatch is forbidden when continue is provided"));
            }
        }
        causes
    }

    /// `namespace` None or empty: all; `name` restricts to one object.
    pub fn list_query(
        &self,
        info: &ResourceInfo,
        namespace: Option<&str>,
        name: Option<&str>,
    ) -> Result<ListQuery, Status> {
        let filter = self.filter(info, namespace, name)?;
        if !self.continue_token.is_empty() {
            let at = At::Continue(ContinueToken::decode(&self.continue_token)?);
            if !matches!(self.resource_version.as_str(), "" | "0") {
                let why = "specifying resource version is not allowed when using continue";
                return Err(Status::bad_request(why));
            }
            return Ok(ListQuery { filter, limit: self.limit, at });
        }
        let revision = revision(&self.resource_version)
            .map_err(|why| Status::bad_request(format!("invalid resource version: {why}")))?;
        let (limit, at) = match (revision, self.resource_version_match) {
            (None, _) => (self.limit, At::Latest),
            (Some(revision), Some(Match::Exact)) => (self.limit, At::Exact(revision)),
            // Any state will do: Kubernetes answers from its cache, which does not page.
            (Some(0), _) => (0, At::Latest),
            // Pages that do not say what they want have always been of the revision that they name.
            (Some(revision), None) if self.limit > 0 => (self.limit, At::Exact(revision)),
            (Some(revision), _) => (self.limit, At::NotOlderThan(revision)),
        };
        Ok(ListQuery { filter, limit, at })
    }

    pub fn watch_query(
        &self,
        info: &ResourceInfo,
        namespace: Option<&str>,
        name: Option<&str>,
    ) -> Result<WatchQuery, Status> {
        let filter = self.filter(info, namespace, name)?;
        let revision = revision(&self.resource_version).map_err(plain)?.unwrap_or(0);
        let start = match (self.send_initial_events, revision) {
            (Some(true), _) => Start::State { not_older_than: revision, bookmark: true },
            (Some(false), 0) => Start::Now,
            (None, 0) => Start::State { not_older_than: 0, bookmark: false },
            (_, revision) => Start::After(revision),
        };
        Ok(WatchQuery { filter, start, bookmarks: self.allow_watch_bookmarks })
    }

    fn filter(
        &self,
        info: &ResourceInfo,
        namespace: Option<&str>,
        name: Option<&str>,
    ) -> Result<Filter, Status> {
        let Some(name) = name else { return Filter::new(info, namespace, self.labels.clone(), &self.fields) };
        let mut terms = self.fields.requirements().to_vec();
        terms.push(FieldRequirement { field: "metadata.name".into(), value: name.into(), negated: false });
        Filter::new(info, namespace, self.labels.clone(), &FieldSelector::of(terms))
    }
}

/// What a GET of one object asks for beside its name, held against a cache of revision `newest`: the options that
/// `metav1.GetOptions` has, and one that is gone.
pub fn check_get(query: &str, newest: u64) -> Result<(), Status> {
    let mut version = None;
    for (key, value) in pairs(query) {
        match key.as_str() {
            "export" if truth(&value) => {
                let why = "the export parameter, deprecated since v1.14, is no longer supported";
                return Err(Status::bad_request(why));
            }
            "resourceVersion" => {
                version.get_or_insert(value);
            }
            _ => {}
        }
    }
    match revision(&version.unwrap_or_default()).map_err(plain)? {
        Some(asked) if asked > newest => Err(Status::too_large_resource_version(asked, newest)),
        _ => Ok(()),
    }
}

/// None for an empty one; the error is a field error's text.
fn revision(version: &str) -> Result<Option<u64>, String> {
    if version.is_empty() {
        return Ok(None);
    }
    // Go takes no sign.
    let digits = if version.starts_with('+') { "+" } else { version };
    digits.parse().map(Some).map_err(|error: ParseIntError| {
        let why = unparsed(&error);
        let quoted = quote(version);
        format!("resourceVersion: Invalid value: {quoted}: strconv.ParseUint: parsing {quoted}: {why}")
    })
}

/// An error that upstream's handlers give on as it is: a 500 of no reason.
fn plain(why: String) -> Status {
    Status::failure(500, "", why)
}

const MATCH: &str = "resourceVersionMatch";

fn bad(error: crate::selector::SelectorError) -> Status {
    Status::bad_request(error.0)
}

fn forbidden(field: &str, why: &str) -> Cause {
    Cause::new("FieldValueForbidden", format!("Forbidden: {why}"), field)
}

fn unsupported(value: &str, known: &[&str]) -> Cause {
    let known = known.iter().map(|value| quote(value)).collect::<Vec<_>>().join(", ");
    let message = format!("Unsupported value: {}: supported values: {known}", quote(value));
    Cause::new("FieldValueNotSupported", message, MATCH)
}

/// As apimachinery converts parameters: only "false" and "0" are false, a bare key is true.
fn truth(value: &str) -> bool {
    !(value.eq_ignore_ascii_case("false") || value == "0")
}

fn integer(value: &str) -> Result<i64, Status> {
    value.parse().map_err(|error: ParseIntError| {
        Status::bad_request(format!("strconv.ParseInt: parsing {}: {}", quote(value), unparsed(&error)))
    })
}

fn unparsed(error: &ParseIntError) -> &'static str {
    match error.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
        _ => "invalid syntax",
    }
}

/// Keys and values, decoded; a pair with a broken escape or with a `;` is left out, as by Go's `url.ParseQuery`.
fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')).filter_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((decoded(key)?, decoded(value)?))
    })
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => hex(rest.next()?)? << 4 | hex(rest.next()?)?,
            byte => byte,
        });
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(query: &str) -> u16 {
        ReadOptions::parse(query).map_or_else(|status| status.code, |_| 200)
    }

    #[test]
    fn a_match_without_resource_version_or_with_continue_or_exact_zero_is_422() {
        assert_eq!(code("resourceVersionMatch=Exact"), 422);
        assert_eq!(code("resourceVersion=5&resourceVersionMatch=Exact&continue=abc"), 422);
        assert_eq!(code("resourceVersion=0&resourceVersionMatch=Exact"), 422);
        assert_eq!(code("resourceVersion=5&resourceVersionMatch=Newest"), 422);
        assert_eq!(code("resourceVersion=5&resourceVersionMatch=Exact"), 200);
    }

    #[test]
    fn send_initial_events_is_for_watches_and_needs_not_older_than() {
        assert_eq!(code("sendInitialEvents=true"), 422);
        assert_eq!(code("watch=1&sendInitialEvents=true"), 422);
        assert_eq!(code("watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"), 200);
        assert_eq!(code("watch=1&resourceVersionMatch=NotOlderThan"), 422);
    }

    #[test]
    fn a_watch_of_everything_is_one_that_sends_what_there_is_first() {
        for query in ["watch=1", "watch=1&resourceVersion=0"] {
            assert_eq!(ReadOptions::parse(query).expect("fine").send_initial_events, Some(true), "{query}");
        }
        for query in ["watch=1&resourceVersion=5", "resourceVersion=0"] {
            assert_eq!(ReadOptions::parse(query).expect("fine").send_initial_events, None, "{query}");
        }
        assert_eq!(code("watch=1&continue=abc"), 422);
        assert_eq!(code("watch=1&continue=abc&resourceVersion=5"), 200);
    }

    #[test]
    fn a_get_is_of_a_revision_that_there_is() {
        let refused = |query: &str| {
            check_get(query, 7).map_or_else(|status| (status.code, status.message), |()| (200, String::new()))
        };
        for query in ["", "resourceVersion=", "resourceVersion=0", "resourceVersion=7", "export=false", "a=b"]
        {
            assert_eq!(refused(query).0, 200, "{query}");
        }
        assert_eq!(refused("resourceVersion=8").0, 504);
        let parsed =
            "resourceVersion: Invalid value: \"x\": strconv.ParseUint: parsing \"x\": invalid syntax";
        assert_eq!(refused("resourceVersion=x&resourceVersion=1"), (500, parsed.to_owned()));
        assert_eq!(refused("resourceVersion=%2B1").0, 500);
        assert_eq!(refused("export=true").0, 400);
    }

    #[test]
    fn a_limit_with_a_revision_pages_through_that_revision() {
        let info = crate::watch_cache::tests::pod_info();
        let at = |query: &str| {
            ReadOptions::parse(query).expect("fine").list_query(&info, None, None).expect("fine")
        };
        assert_eq!(at("resourceVersion=5&limit=2").at, At::Exact(5));
        assert_eq!(at("resourceVersion=5").at, At::NotOlderThan(5));
        assert_eq!(at("resourceVersion=5&limit=2&resourceVersionMatch=NotOlderThan").at, At::NotOlderThan(5));
        assert_eq!(at("resourceVersion=0&limit=2&resourceVersionMatch=NotOlderThan").limit, 0);
    }

    #[test]
    fn the_refusal_names_what_is_forbidden() {
        let status = ReadOptions::parse("resourceVersionMatch=Exact").expect_err("refused");
        assert_eq!(
            status.message,
            "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: \
             resourceVersionMatch is forbidden unless resourceVersion is provided"
        );
    }

    #[test]
    fn bad_numbers_and_selectors_are_400() {
        for query in
            ["limit=many", "timeoutSeconds=1s", "labelSelector=a+b", "fieldSelector=x", "labelSelector=%3D"]
        {
            assert_eq!(code(query), 400, "{query}");
        }
    }

    #[test]
    fn a_pair_with_a_semicolon_does_not_count() {
        let options = ReadOptions::parse("limit=x;&labelSelector=a;b=c&limit=5").expect("fine");
        assert_eq!((options.limit, options.labels.to_string()), (5, String::new()));
    }

    #[test]
    fn a_continue_token_is_read_before_it_is_told_that_it_goes_with_no_revision() {
        let info = crate::watch_cache::tests::pod_info();
        let refused = |query: &str| {
            let options = ReadOptions::parse(query).expect("fine");
            options.list_query(&info, None, None).expect_err("refused").message
        };
        let why = "invalid continue token: continue key is not valid: \
                   invalid character 'i' looking for beginning of value";
        assert_eq!(refused("continue=abc&resourceVersion=5"), why);
        let token = ContinueToken { revision: Some(3), start: "a".into() }.encode();
        let why = "specifying resource version is not allowed when using continue";
        assert_eq!(refused(&format!("continue={token}&resourceVersion=5")), why);
    }

    #[test]
    fn parameters_are_decoded() {
        let options = ReadOptions::parse("labelSelector=a%3Db%2Cc+in+%28d%29&watch&limit=5").expect("fine");
        assert_eq!(options.labels.to_string(), "a=b,c in (d)");
        assert!(options.watch);
        assert_eq!(options.limit, 5);
    }
}
