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
    /// No media type on the list is made here, or not what is asked of it.
    Nothing,
    /// Upstream's router finds no media type on the list that is made here.
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

/// The best form for an Accept header; the absence of the header means JSON. `built_in`: whether there is a protobuf form
/// of what is asked for, as of all kinds but custom ones. Of those, too, what upstream's router lets pass is less than
/// what the negotiation behind it understands.
pub fn negotiate(accept: Option<&str>, built_in: bool) -> Form {
    let Some(accept) = accept.filter(|accept| !accept.is_empty()) else { return Form::Json };
    if accept == "application/json" || accept == "*/*" {
        return Form::Json;
    }
    if built_in && !passes_the_router(Some(accept), &ACCEPTED) {
        return Form::Unknown;
    }
    let forms = clauses(accept).into_iter().filter_map(Clause::form);
    forms.into_iter().find(|form| built_in || *form != Form::Protobuf).unwrap_or(Form::Nothing)
}

/// Whether one of the media types that are made stands there, or `*/*`; no other wildcard does (go-restful
/// `Route.matchesAccept`).
pub fn passes_the_router(accept: Option<&str>, made: &[&str]) -> bool {
    accept.filter(|accept| !accept.is_empty()).is_none_or(|accept| {
        accept.split(',').any(|clause| {
            let media = clause.split(';').next().unwrap_or_default().trim_matches(' ');
            media == "*/*" || made.contains(&media)
        })
    })
}

/// A media range with the parameters that count.
struct Clause<'a> {
    kind: &'a str,
    subtype: &'a str,
    quality: f32,
    target: Option<Target<'a>>,
    stream: &'a str,
    server_version: &'a str,
}

/// What objects are to be turned into.
#[derive(Clone, Copy, Default)]
struct Target<'a> {
    kind: &'a str,
    group: &'a str,
    version: &'a str,
}

/// In goautoneg's order: by quality, wildcards last. Its sort is by insertion, for as many as anybody sends; it is no
/// order for all there could be.
fn clauses(accept: &str) -> Vec<Clause<'_>> {
    let mut sorted: Vec<Clause<'_>> = Vec::new();
    for clause in accept.split(',').filter_map(Clause::parse).take(MOST_CLAUSES) {
        let mut at = sorted.len();
        while at > 0 && clause.precedes(&sorted[at - 1]) {
            at -= 1;
        }
        sorted.insert(at, clause);
    }
    sorted
}

const MOST_CLAUSES: usize = 64;

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let space = |c| c == ' ';
        let mut pieces = text.trim_matches(space).split(';');
        let media = pieces.next()?;
        let (kind, subtype) = match media.split_once('/') {
            Some((kind, subtype)) if !subtype.contains('/') && !subtype.is_empty() => (kind, subtype),
            None if media.trim_matches(space) == "*" => ("*", "*"),
            _ => return None,
        };
        let (kind, subtype) = (kind.trim_matches(space), subtype.trim_matches(space));
        let mut clause = Self { kind, subtype, quality: 1.0, target: None, stream: "", server_version: "" };
        for piece in pieces {
            let Some((name, value)) = piece.split_once('=').filter(|(_, value)| !value.contains('=')) else {
                continue;
            };
            let (name, trimmed) = (name.trim_matches(space), value.trim_matches(space));
            match name {
                "q" => clause.quality = value.parse().unwrap_or(0.0),
                "as" => clause.target.get_or_insert_default().kind = trimmed,
                "g" => clause.target.get_or_insert_default().group = trimmed,
                "v" => clause.target.get_or_insert_default().version = trimmed,
                "stream" => clause.stream = trimmed,
                "sv" => clause.server_version = trimmed,
                _ => {}
            }
        }
        Some(clause)
    }

    fn precedes(&self, other: &Self) -> bool {
        self.quality > other.quality
            || (self.kind != "*" && other.kind == "*")
            || (self.subtype != "*" && other.subtype == "*")
    }

    /// The first of the media types that it names and can have what it asks for.
    fn form(self) -> Option<Form> {
        let any = self.kind == "*" && self.subtype == "*";
        let names = |subtype| any || (self.kind == "application" && [subtype, "*"].contains(&self.subtype));
        let (json, yaml) = (names("json"), names("yaml"));
        if !self.server_version.is_empty() || !matches!(self.stream, "" | "watch") {
            return None;
        }
        let streams = !self.stream.is_empty();
        let target = self.target.map(|Target { kind, group, version }| match (group, version) {
            ("meta.k8s.io", "v1" | "v1beta1") => (kind, version),
            _ => ("", ""),
        });
        let protobuf = names("vnd.kubernetes.protobuf");
        match target {
            None if json => Some(Form::Json),
            None if yaml && !streams => Some(Form::Python),
            None if protobuf => Some(Form::Protobuf),
            Some(("PartialObjectMetadata", "v1")) if json => Some(Form::Metadata),
            Some(("PartialObjectMetadataList", "v1")) if json => Some(Form::MetadataList),
            Some(("PartialObjectMetadata", "v1")) if protobuf => Some(Form::ProtobufMetadata),
            Some(("PartialObjectMetadataList", "v1")) if protobuf => Some(Form::ProtobufMetadataList),
            Some(("PartialObjectMetadata" | "PartialObjectMetadataList", _))
                if json || protobuf || (yaml && !streams) =>
            {
                Some(Form::Python)
            }
            Some(("Table", _)) if json || (yaml && !streams) => Some(Form::Python),
            _ => None,
        }
    }
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
            (Some("application/json;q=0"), Form::Json),
            (Some("application/json;q=much,application/yaml;q=0.1"), Form::Python),
            (Some("*/*, application/yaml;q=0.1"), Form::Python),
            (Some("application/json;as=Table;v=v1;g=nope"), Form::Nothing),
            (Some("application/json;as=Table"), Form::Nothing),
            (Some("application/json;g=meta.k8s.io"), Form::Nothing),
            (Some("application/json;stream=watch"), Form::Json),
            (Some("application/yaml;stream=watch"), Form::Nothing),
            (Some("application/*"), Form::Unknown),
            (Some("*"), Form::Unknown),
            (Some("application/JSON"), Form::Unknown),
            (Some("application/*,application/yaml;q=0.1"), Form::Python),
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
