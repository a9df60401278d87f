//! Which representation the client wants, and whether the read path can make it.
//!
//! Source: apiserver `pkg/endpoints/handlers/negotiation` with goautoneg's ordering by quality.

/// What to answer a read with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The objects as stored.
    Json,
    /// PartialObjectMetadata: of one object, or of each in a watch.
    Metadata,
    /// PartialObjectMetadataList.
    MetadataList,
    /// The objects in protobuf, where their kind has such a form.
    Protobuf,
    /// PartialObjectMetadata and PartialObjectMetadataList in protobuf, which all kinds have.
    ProtobufMetadata,
    ProtobufMetadataList,
    /// Something that Python makes: Table, YAML.
    Python,
    /// Media types that are made here are on the list, but not what is asked of them.
    Nothing,
    /// No media type on the list is made here.
    Unknown,
}

/// The media types that are made, as a 406 names them.
pub const ACCEPTED: [&str; 3] =
    ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

/// Where watches can be had, too.
pub const ACCEPTED_STREAMS: [&str; 5] = [
    ACCEPTED[0],
    ACCEPTED[1],
    ACCEPTED[2],
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
];

impl Form {
    pub fn is_protobuf(self) -> bool {
        matches!(self, Self::Protobuf | Self::ProtobufMetadata | Self::ProtobufMetadataList)
    }
}

/// Picks by descending quality, first come first; the absence of the header means JSON. `protobuf`: whether there is
/// such a form of what is asked for.
pub fn negotiate(accept: Option<&str>, protobuf: bool) -> Form {
    let Some(accept) = accept.map(str::trim).filter(|accept| !accept.is_empty()) else { return Form::Json };
    if accept == "application/json" || accept == "*/*" {
        return Form::Json;
    }
    let mut best: Option<(f32, Form)> = None;
    let mut known = false;
    for clause in accept.split(',') {
        let (quality, media, form) = judge(clause);
        known |= media;
        let Some(form) = form.filter(|form| protobuf || *form != Form::Protobuf) else { continue };
        if quality > 0.0 && best.is_none_or(|(held, _)| quality > held) {
            best = Some((quality, form));
        }
    }
    best.map_or(if known { Form::Nothing } else { Form::Unknown }, |(_, form)| form)
}

/// One clause: its quality, whether its media type is made here, and the form when there is one.
fn judge(clause: &str) -> (f32, bool, Option<Form>) {
    let mut pieces = clause.split(';').map(str::trim);
    let media = pieces.next().unwrap_or("");
    let (mut quality, mut target, mut group, mut version) = (1.0f32, "", "", "");
    for parameter in pieces {
        match parameter.split_once('=').map(|(key, value)| (key.trim(), value.trim().trim_matches('"'))) {
            Some(("q", value)) => quality = value.parse().unwrap_or(1.0),
            Some(("as", value)) => target = value,
            Some(("g", value)) => group = value,
            Some(("v", value)) => version = value,
            _ => {}
        }
    }
    let protobuf = media == "application/vnd.kubernetes.protobuf";
    let json = matches!(media, "application/json" | "application/*" | "*/*");
    let other = protobuf || matches!(media, "application/yaml" | "application/cbor");
    let form = match target {
        _ if !json && !other => None,
        "" if json => Some(Form::Json),
        _ if media == "application/cbor" => None,
        "" if protobuf => Some(Form::Protobuf),
        "" => Some(Form::Python),
        _ if group != "meta.k8s.io" => None,
        "PartialObjectMetadata" if version == "v1" && json => Some(Form::Metadata),
        "PartialObjectMetadataList" if version == "v1" && json => Some(Form::MetadataList),
        "PartialObjectMetadata" if version == "v1" && protobuf => Some(Form::ProtobufMetadata),
        "PartialObjectMetadataList" if version == "v1" && protobuf => Some(Form::ProtobufMetadataList),
        "Table" if protobuf => None,
        "PartialObjectMetadata" | "PartialObjectMetadataList" | "Table"
            if version == "v1" || version == "v1beta1" =>
        {
            Some(Form::Python)
        }
        _ => None,
    };
    (quality, json || other, form)
}

/// Whether a Status is to be sent in protobuf: what is asked for of objects (`as=`) does not count.
pub fn wants_protobuf_status(accept: Option<&str>) -> bool {
    let Some(accept) = accept.filter(|accept| accept.contains("protobuf")) else { return false };
    let plain = accept.split(',').filter(|clause| !clause.contains("as=")).collect::<Vec<_>>().join(",");
    !plain.is_empty() && negotiate(Some(&plain), true) == Form::Protobuf
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_form_that_can_be_made_is_picked() {
        let table = [
            (None, Form::Json),
            (Some(""), Form::Json),
            (Some("*/*"), Form::Json),
            (Some("application/json, */*"), Form::Json),
            (Some("text/html, application/xhtml+xml, application/xml;q=0.9, */*;q=0.8"), Form::Json),
            (Some("application/json;as=Table;v=v1;g=meta.k8s.io,application/json"), Form::Python),
            (Some("application/json;as=Table;v=v9;g=meta.k8s.io,application/json"), Form::Json),
            (
                Some("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"),
                Form::MetadataList,
            ),
            (Some("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"), Form::Metadata),
            (Some("application/vnd.kubernetes.protobuf,application/json"), Form::Protobuf),
            (Some("application/json,application/vnd.kubernetes.protobuf"), Form::Json),
            (Some("application/json;q=0.5,application/yaml"), Form::Python),
            (Some("application/cbor,application/json"), Form::Json),
            (Some("text/plain"), Form::Unknown),
            (Some("application/json;q=0"), Form::Nothing),
            (Some("application/json;as=Table;v=v1;g=nope"), Form::Nothing),
            (
                Some("application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,*/*"),
                Form::ProtobufMetadata,
            ),
            (Some("application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1"), Form::Nothing),
        ];
        for (accept, expected) in table {
            assert_eq!(negotiate(accept, true), expected, "{accept:?}");
        }
    }

    #[test]
    fn kinds_without_protobuf_are_sent_in_the_next_best_form() {
        let both = Some("application/vnd.kubernetes.protobuf,application/json");
        assert_eq!(negotiate(both, false), Form::Json);
        assert_eq!(negotiate(Some("application/vnd.kubernetes.protobuf"), false), Form::Nothing);
    }

    #[test]
    fn a_status_is_in_protobuf_only_when_plain_protobuf_is_preferred() {
        for (accept, expected) in [
            (None, false),
            (Some("application/json"), false),
            (Some("application/vnd.kubernetes.protobuf"), true),
            (Some("application/vnd.kubernetes.protobuf, */*"), true),
            (Some("application/json,application/vnd.kubernetes.protobuf"), false),
            (Some("application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"), false),
        ] {
            assert_eq!(wants_protobuf_status(accept), expected, "{accept:?}");
        }
    }
}
