//! The messages of Kubernetes' API, baked by build.rs from `messages.txt`: which number and type a JSON name has.

#[derive(Debug)]
pub struct Message {
    /// As Go calls the type.
    pub name: &'static str,
    /// By number.
    pub fields: &'static [Field],
    /// JSON names with the positions of their fields, by name; those of inlined messages are among them.
    names: &'static [(&'static str, u8)],
}

#[derive(Debug)]
pub struct Field {
    pub number: u32,
    /// In JSON; of an inlined message, the name of its type.
    pub json: &'static str,
    pub kind: Kind,
    pub repeat: Repeat,
    /// Whether a scalar on the wire goes into the JSON though it is zero.
    pub keeps_zero: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    String,
    /// Base64 in JSON.
    Bytes,
    Bool,
    Int32,
    Int64,
    Double,
    Message(u16),
    // From here on messages that JSON shows as something else than their fields.
    /// metav1.Time, in seconds.
    Time,
    MicroTime,
    Quantity,
    IntOrString,
    /// JSON, in a field of bytes.
    Json,
    /// runtime.RawExtension: JSON, or an object in an envelope of its own.
    Extension,
    /// A list that needs a message because it is a map's value.
    Strings,
    /// The unions of CustomResourceDefinitions' schemas.
    SchemaOrList,
    SchemaOrBool,
    SchemaOrStrings,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    Single,
    List,
    /// From strings to values of the field's kind.
    Map,
    /// A message whose fields JSON shows as the outer one's.
    Inlined,
}

impl Kind {
    pub fn message(self) -> Option<&'static Message> {
        match self {
            Self::Message(number) => MESSAGES.get(usize::from(number)),
            _ => None,
        }
    }
}

impl Message {
    /// The field that holds the JSON member of that name: itself, or within the message inlined there.
    pub fn position(&self, json_name: &str) -> Option<u8> {
        let found = self.names.binary_search_by(|(name, _)| (*name).cmp(json_name)).ok()?;
        Some(self.names[found].1)
    }

    pub fn number(&self, number: u32) -> Option<u8> {
        let found = self.fields.binary_search_by_key(&number, |field| field.number).ok()?;
        u8::try_from(found).ok()
    }
}

/// The way through an object of the kind, given by names in JSON, as Go has it: with the names of the structs between,
/// whose fields JSON shows as the outer one's.
pub fn through_embedded<'a>(
    api_version: &str,
    kind: &str,
    names: impl Iterator<Item = &'a str>,
) -> Vec<&'a str> {
    let mut message = message_of(api_version, kind);
    let mut way = Vec::new();
    for name in names {
        let mut owner = message.take();
        while let Some((at, of)) = owner.and_then(|owner| Some((owner.position(name)?, owner))) {
            let field = &of.fields[usize::from(at)];
            owner = field.kind.message();
            if field.repeat != Repeat::Inlined {
                message = owner;
                break;
            }
            way.push(field.json);
        }
        way.push(name);
    }
    way
}

/// The message of a kind; None for one that has no protobuf form.
pub fn message_of(api_version: &str, kind: &str) -> Option<&'static Message> {
    let known = |api_version: &str| {
        let found = KINDS.binary_search_by(|(key, _)| key.cmp(&(api_version, kind))).ok()?;
        MESSAGES.get(usize::from(KINDS[found].1))
    };
    known(api_version).or_else(|| match kind {
        // Registered in every group version.
        "CreateOptions" | "DeleteOptions" | "GetOptions" | "ListOptions" | "PatchOptions"
        | "UpdateOptions" | "WatchEvent" => known("v1"),
        _ => None,
    })
}

include!(concat!(env!("OUT_DIR"), "/protobuf_tables.rs"));
