//! What labels, their keys and values and the names of objects may look like: k8s.io/apimachinery `pkg/util/validation`.

const NAME_FORMAT: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const NAME_RULE: &str = "must consist of alphanumeric characters, '-', '_' or '.', \
                         and must start and end with an alphanumeric character";
const SUBDOMAIN_FORMAT: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const SUBDOMAIN_RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
                              '-' or '.', and must start and end with an alphanumeric character";
const LABEL_FORMAT: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const LABEL_RULE: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', \
                          and must start and end with an alphanumeric character";
const LABEL_1035_FORMAT: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const LABEL_1035_RULE: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', \
                               start with an alphabetic character, and end with an alphanumeric character";
const VALUE_FORMAT: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";
const VALUE_RULE: &str = "a valid label must be an empty string or consist of alphanumeric characters, \
                          '-', '_' or '.', and must start and end with an alphanumeric character";

/// Why `key` is no qualified name; empty when it is one.
pub fn label_key_problems(key: &str) -> Vec<String> {
    let mut parts = key.split('/');
    let (prefix, name) = match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, _) => (None, name),
        (Some(prefix), Some(name), None) => (Some(prefix), name),
        _ => {
            let rule = pattern_problem(NAME_RULE, NAME_FORMAT, &["MyName", "my.name", "123-abc"]);
            return vec![format!(
                "a valid label key {rule} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    let mut problems = Vec::new();
    match prefix {
        Some("") => problems.push("prefix part must be non-empty".to_owned()),
        Some(prefix) => {
            // Upstream's rules of labels count bytes, those of names characters, and it says so.
            problems.extend(
                subdomain_problems(prefix)
                    .into_iter()
                    .map(|problem| format!("prefix part {}", problem.replace("253 characters", "253 bytes"))),
            );
        }
        None => {}
    }
    if name.is_empty() {
        problems.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        problems.push("name part must be no more than 63 bytes".to_owned());
    }
    if !is_name(name) {
        let rule = pattern_problem(NAME_RULE, NAME_FORMAT, &["MyName", "my.name", "123-abc"]);
        problems.push(format!("name part {rule}"));
    }
    problems
}

/// Why `value` is no label value; empty when it is one.
pub fn label_value_problems(value: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if value.len() > 63 {
        problems.push("must be no more than 63 bytes".to_owned());
    }
    if !value.is_empty() && !is_name(value) {
        problems.push(pattern_problem(VALUE_RULE, VALUE_FORMAT, &["MyValue", "my_value", "12345"]));
    }
    problems
}

/// Why `value` is no subdomain as RFC 1123 has it; empty when it is one.
pub fn subdomain_problems(value: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if value.len() > 253 {
        problems.push("must be no more than 253 characters".to_owned());
    }
    if !value.split('.').all(is_dns_label) {
        problems.push(pattern_problem(SUBDOMAIN_RULE, SUBDOMAIN_FORMAT, &["example.com"]));
    }
    problems
}

/// Why `value` is no DNS label as RFC 1123 has it; empty when it is one.
pub fn dns_label_problems(value: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if value.len() > 63 {
        problems.push("must be no more than 63 characters".to_owned());
    }
    if !is_dns_label(value) {
        problems.push(if value.split('.').all(is_dns_label) {
            "must not contain dots".to_owned()
        } else {
            pattern_problem(LABEL_RULE, LABEL_FORMAT, &["my-name", "123-abc"])
        });
    }
    problems
}

/// Why `value` is no DNS label as RFC 1035 has it, which begins with a letter; empty when it is one.
pub fn dns_1035_label_problems(value: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if value.len() > 63 {
        problems.push("must be no more than 63 characters".to_owned());
    }
    if !is_dns_label(value) || value.starts_with(|c: char| c.is_ascii_digit()) {
        problems.push(pattern_problem(LABEL_1035_RULE, LABEL_1035_FORMAT, &["my-name", "abc-123"]));
    }
    problems
}

fn is_dns_label(label: &str) -> bool {
    let bytes = label.as_bytes();
    let edge = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

fn is_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// As upstream's RegexError, its odd spacing included: clients compare messages.
fn pattern_problem(rule: &str, format: &str, examples: &[&str]) -> String {
    let examples = examples.iter().map(|example| format!("'{example}', ")).collect::<Vec<_>>().join(" or ");
    format!("{rule} (e.g. {examples}regex used for validation is '{format}')")
}
