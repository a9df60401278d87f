//! The named formats of `format.named()`: apiserver `pkg/cel/library/format.go`.

use crate::go;
use crate::schema::custom::Format;
use crate::selector::{
    dns_1035_label_problems, dns_label_problems, label_key_problems, label_value_problems, subdomain_problems,
};

/// Names, and how long a pattern the price of a validation assumes.
const FORMATS: [(&str, u64); 13] = [
    ("dns1123Label", 30),
    ("dns1123Subdomain", 60),
    ("dns1035Label", 30),
    ("qualifiedName", 60),
    ("dns1123LabelPrefix", 30),
    ("dns1123SubdomainPrefix", 60),
    ("dns1035LabelPrefix", 30),
    ("labelValue", 40),
    ("uri", 1103),
    ("uuid", 70),
    ("byte", 84),
    ("date", 71),
    ("datetime", 71),
];

/// A name that is known.
pub(crate) fn named(name: &str) -> Option<&'static str> {
    FORMATS.iter().find(|(known, _)| *known == name).map(|(known, _)| *known)
}

pub(crate) fn pattern_size(name: &str) -> u64 {
    FORMATS.iter().find(|(known, _)| *known == name).map_or(0, |(_, size)| *size)
}

/// Why a text is not of the format; empty where it is.
pub(crate) fn problems(name: &str, text: &str) -> Vec<String> {
    let held_to = |format: Format, message: &str| match format.admits(text) {
        true => Vec::new(),
        false => vec![message.to_owned()],
    };
    match name {
        "dns1123Label" => dns_label_problems(text),
        "dns1123Subdomain" => subdomain_problems(text),
        "dns1035Label" => dns_1035_label_problems(text),
        "dns1123LabelPrefix" => dns_label_problems(&masked(text)),
        "dns1123SubdomainPrefix" => subdomain_problems(&masked(text)),
        "dns1035LabelPrefix" => dns_1035_label_problems(&masked(text)),
        "qualifiedName" => label_key_problems(text),
        "labelValue" => label_value_problems(text),
        "uri" => go::Url::parse_request_uri(text).err().into_iter().collect(),
        "uuid" => held_to(Format::Uuid, "does not match the UUID format"),
        "byte" => held_to(Format::Byte, "invalid base64"),
        "date" => held_to(Format::Date, "invalid date"),
        "datetime" => held_to(Format::DateTime, "invalid datetime"),
        _ => Vec::new(),
    }
}

/// A prefix may end with a dash. Upstream takes one more character away, which stays without effect on what is valid.
fn masked(text: &str) -> String {
    match text.strip_suffix('-') {
        Some(rest) if !rest.is_empty() => {
            let mut kept = rest.to_owned();
            kept.pop();
            kept + "a"
        }
        _ => text.to_owned(),
    }
}
