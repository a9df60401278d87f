//! Who asks, as an extension API server hears of it: in headers, which it believes by the certificate that we show.
//!
//! Source: client-go `transport/round_trippers.go` (SetAuthProxyHeaders).

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use kubecore_core::authn::UserInfo;
use kubecore_core::go::escaped;

const USER: &str = "x-remote-user";
const UID: &str = "x-remote-uid";
const GROUP: &str = "x-remote-group";
const EXTRA: &str = "x-remote-extra-";
/// What a header's name may have beside letters and digits (RFC 7230), but for `%`.
const TOKEN: &[u8] = b"!#$&'*+-.^_`|~";

/// What of the client's headers would speak of a user: no backend hears it (apiserver `pkg/endpoints/filters`,
/// WithAuthentication).
pub fn is_claim(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(name, USER | UID | GROUP) || name.starts_with(EXTRA)
}

/// The name of the header that cannot be sent, in Go's form.
pub fn tell(user: &UserInfo, headers: &mut HeaderMap) -> Result<(), String> {
    add(headers, USER, &user.username)?;
    if !user.uid.is_empty() {
        add(headers, UID, &user.uid)?;
    }
    for group in &user.groups {
        add(headers, GROUP, group)?;
    }
    for (key, values) in &user.extra {
        let name = format!("{EXTRA}{}", escaped(key.as_bytes(), TOKEN));
        for value in values {
            add(headers, &name, value)?;
        }
    }
    Ok(())
}

fn add(headers: &mut HeaderMap, name: &str, value: &str) -> Result<(), String> {
    let known = HeaderName::try_from(name).map_err(|_| shown(name))?;
    let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| shown(name))?;
    headers.append(known, value);
    Ok(())
}

fn shown(name: &str) -> String {
    let parts: Vec<String> = name.split('-').map(capitalized).collect();
    parts.join("-")
}

fn capitalized(part: &str) -> String {
    let mut letters = part.chars();
    letters.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_told_with_uid_groups_and_extras() {
        let mut headers = HeaderMap::new();
        let user = UserInfo {
            username: "jane".into(),
            uid: "42".into(),
            groups: vec!["a".into(), "b".into()],
            extra: vec![("example.com/scopes%".into(), vec!["x".into(), "y".into()])],
        };
        tell(&user, &mut headers).unwrap();
        let shown: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        assert_eq!(
            shown,
            [
                "x-remote-user: jane",
                "x-remote-uid: 42",
                "x-remote-group: a",
                "x-remote-group: b",
                "x-remote-extra-example.com%2fscopes%25: x",
                "x-remote-extra-example.com%2fscopes%25: y",
            ]
        );
    }

    #[test]
    fn a_name_that_no_header_can_have_is_not_left_out_in_silence() {
        let user = UserInfo { username: "a\nb".into(), ..UserInfo::new("", &[]) };
        assert_eq!(tell(&user, &mut HeaderMap::new()), Err("X-Remote-User".into()));
    }
}
