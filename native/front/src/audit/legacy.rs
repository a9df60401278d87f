//! Events as lines of text, for the log format `legacy`.

use serde_json::Value;

/// As upstream's EventString (`pkg/audit/format.go`).
pub fn as_text(event: &[u8]) -> Vec<u8> {
    let Ok(event) = serde_json::from_slice::<Value>(event) else { return Vec::new() };
    let text = |pointer: &str, missing: &str| match event.pointer(pointer).and_then(Value::as_str) {
        None | Some("") => missing.to_owned(),
        Some(found) => found.to_owned(),
    };
    let groups = |pointer: &str, missing: &str| match event.pointer(pointer).and_then(Value::as_array) {
        Some(found) if !found.is_empty() => found.iter().map(Value::to_string).collect::<Vec<_>>().join(","),
        _ => missing.to_owned(),
    };
    let quoted = |text: String| Value::from(text).to_string();
    let received = text("/requestReceivedTimestamp", "");
    let received = received.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.').to_owned();
    let known = event.pointer("/user/username").is_some();
    let code =
        event.pointer("/responseStatus/code").map_or_else(|| "<deferred>".to_owned(), Value::to_string);
    let parts = [
        ("id", text("/auditID", "")),
        ("stage", text("/stage", "")),
        ("ip", text("/sourceIPs/0", "<unknown>")),
        ("method", text("/verb", "")),
        ("user", text("/user/username", "<none>")),
        ("groups", if known { groups("/user/groups", "<none>") } else { "<none>".to_owned() }),
        ("as", text("/impersonatedUser/username", "<self>")),
        ("asgroups", groups("/impersonatedUser/groups", "<lookup>")),
        ("user-agent", text("/userAgent", "")),
        ("namespace", text("/objectRef/namespace", "<none>")),
        ("uri", text("/requestURI", "")),
        ("response", code),
    ];
    let told = parts.map(|(name, value)| format!("{name}={}", quoted(value))).join(" ");
    format!("{received}Z AUDIT: {told}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_legacy_format_is_a_line_of_text() {
        let event = br#"{"auditID":"i","stage":"S","requestURI":"/x","verb":"get","user":{"username":"u","groups":["a","b"]},"sourceIPs":["::1"],"userAgent":"g","responseStatus":{"code":200},"requestReceivedTimestamp":"2026-01-02T15:04:05.120000Z"}"#;
        assert_eq!(
            String::from_utf8(as_text(event)).unwrap(),
            concat!(
                r#"2026-01-02T15:04:05.12Z AUDIT: id="i" stage="S" ip="::1" method="get" user="u" groups="\"a\",\"b\"" "#,
                r#"as="<self>" asgroups="<lookup>" user-agent="g" namespace="<none>" uri="/x" response="200""#,
                "\n"
            )
        );
    }
}
