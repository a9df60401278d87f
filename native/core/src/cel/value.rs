//! What expressions compute with. Values of the object under examination are not copied but looked at where they are.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde_json::{Map as JsonMap, Value as Json};

use super::authority::Authority;
use super::quantity::Quantity;
use super::semver::Semver;
use super::time::Timestamp;
use crate::go::Url;
use crate::schema::custom::Node;

#[derive(Clone, Debug)]
pub(crate) enum Text<'a> {
    Borrowed(&'a str),
    Shared(Rc<str>),
}

impl Text<'_> {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Shared(text) => text,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Text<'a>),
    Bytes(Rc<[u8]>),
    /// Nanoseconds.
    Duration(i64),
    Timestamp(Timestamp),
    List(List<'a>),
    Map(Map<'a>),
    Optional(Option<Rc<Value<'a>>>),
    /// A type, by its name.
    Type(Rc<str>),
    Quantity(Quantity),
    Url(Rc<Url>),
    Ip(IpAddr),
    Cidr(IpAddr, u8),
    Semver(Rc<Semver>),
    Format(&'static str),
    /// What expressions of admission ask the authorizer with.
    Authority(Rc<Authority>),
    /// Data without a schema: it can be compared, and nothing else.
    Opaque(&'a Json),
}

/// `x-kubernetes-list-type`, as far as it changes what operators do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Order<'a> {
    /// Order counts.
    Plain,
    Set,
    /// Elements are known by these keys.
    Keyed(&'a [Box<str>]),
}

#[derive(Clone, Debug)]
pub(crate) enum List<'a> {
    Json {
        elements: &'a [Json],
        items: &'a Node,
        order: Order<'a>,
    },
    /// Of data whose elements are what they look like.
    Plain(&'a [Json]),
    Owned {
        elements: Rc<Vec<Value<'a>>>,
        order: Order<'a>,
    },
}

#[derive(Clone, Debug)]
pub(crate) enum Map<'a> {
    /// An object of a schema; `resource`: with the fields that every resource has.
    Json {
        members: &'a JsonMap<String, Json>,
        node: &'a Node,
        resource: bool,
    },
    /// Data whose members are what they look like.
    Plain(&'a JsonMap<String, Json>),
    Owned(Rc<OwnedMap<'a>>),
}

/// A map made by an expression, in order of insertion.
#[derive(Debug, Default)]
pub(crate) struct OwnedMap<'a> {
    pub entries: Vec<(Value<'a>, Value<'a>)>,
    index: FxHashMap<Key, usize>,
    /// The type of an object that a patch is made of.
    pub message: Option<Arc<str>>,
}

/// A value that can be a key. Numbers of one value are one key, whatever their type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Bool(bool),
    Number(i128),
    /// A number that is no integer, by its bits.
    Fraction(u64),
    String(Box<str>),
}

impl Key {
    pub fn of(value: &Value<'_>) -> Option<Self> {
        Some(match value {
            Value::Bool(value) => Self::Bool(*value),
            Value::Int(value) => Self::Number(i128::from(*value)),
            Value::Uint(value) => Self::Number(i128::from(*value)),
            Value::Double(value) if value.fract() == 0.0 && value.abs() < 1e30 => {
                Self::Number(*value as i128)
            }
            Value::Double(value) => Self::Fraction(value.to_bits()),
            Value::String(text) => Self::String(text.as_str().into()),
            _ => return None,
        })
    }
}

impl<'a> OwnedMap<'a> {
    pub fn get(&self, key: &Key) -> Option<&Value<'a>> {
        self.index.get(key).map(|at| &self.entries[*at].1)
    }

    /// Says whether the key is new; what was there before is replaced.
    pub fn insert(&mut self, key: Key, name: Value<'a>, value: Value<'a>) -> bool {
        match self.index.get(&key) {
            Some(at) => {
                self.entries[*at].1 = value;
                false
            }
            None => {
                self.index.insert(key, self.entries.len());
                self.entries.push((name, value));
                true
            }
        }
    }

    pub fn remove(&mut self, key: &Key) {
        if let Some(at) = self.index.remove(key) {
            self.entries.remove(at);
            for other in self.index.values_mut().filter(|other| **other > at) {
                *other -= 1;
            }
        }
    }
}

impl Clone for OwnedMap<'_> {
    fn clone(&self) -> Self {
        Self { entries: self.entries.clone(), index: self.index.clone(), message: self.message.clone() }
    }
}

impl<'a> Value<'a> {
    pub fn text(text: impl Into<Rc<str>>) -> Self {
        Self::String(Text::Shared(text.into()))
    }

    pub fn list(elements: Vec<Value<'a>>) -> Self {
        Self::List(List::Owned { elements: Rc::new(elements), order: Order::Plain })
    }

    pub fn some(value: Value<'a>) -> Self {
        Self::Optional(Some(Rc::new(value)))
    }

    /// As `type()` names it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::String(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Optional(_) => "optional_type",
            Self::Type(_) => "type",
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Url(_) => "kubernetes.URL",
            Self::Ip(_) => "net.IP",
            Self::Cidr(..) => "net.CIDR",
            Self::Semver(_) => "kubernetes.Semver",
            Self::Format(_) => "kubernetes.NamedFormat",
            Self::Authority(authority) => authority.type_name(),
            Self::Opaque(_) => "unknown",
        }
    }

    /// What `size()` tells, for the price of calls; 1 for what has no size.
    pub fn size(&self) -> u64 {
        match self {
            Self::String(text) => text.as_str().chars().count() as u64,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::List(list) => list.len() as u64,
            Self::Map(map) => map.len() as u64,
            Self::Optional(Some(value)) => value.size(),
            Self::Ip(address) => {
                if address.is_ipv4() {
                    4
                } else {
                    16
                }
            }
            Self::Cidr(_, bits) => u64::from(*bits).div_ceil(8),
            _ => 1,
        }
    }

    /// How long a text or how many bytes; of everything else nothing.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::String(text) => text.as_str().len() as u64,
            Self::Bytes(bytes) => bytes.len() as u64,
            _ => 0,
        }
    }

    /// The value as a number of any type, for comparisons across types.
    pub fn is_number(&self) -> bool {
        matches!(self, Self::Int(_) | Self::Uint(_) | Self::Double(_))
    }

    /// Zero, empty, false or null.
    pub fn is_zero(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Bool(value) => !value,
            Self::Int(value) => *value == 0,
            Self::Uint(value) => *value == 0,
            Self::Double(value) => *value == 0.0,
            Self::String(text) => text.as_str().is_empty(),
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::Duration(nanos) => *nanos == 0,
            Self::Timestamp(time) => time.is_zero(),
            Self::List(List::Owned { elements, .. }) => elements.is_empty(),
            Self::List(List::Plain(elements)) => elements.is_empty(),
            Self::Map(Map::Owned(map)) => map.entries.is_empty(),
            Self::Map(Map::Plain(members)) => members.is_empty(),
            Self::Optional(inner) => inner.is_none(),
            _ => false,
        }
    }
}

impl List<'_> {
    pub fn len(&self) -> usize {
        match self {
            Self::Json { elements, .. } | Self::Plain(elements) => elements.len(),
            Self::Owned { elements, .. } => elements.len(),
        }
    }
}

impl Map<'_> {
    pub fn len(&self) -> usize {
        match self {
            Self::Json { members, .. } | Self::Plain(members) => members.len(),
            Self::Owned(map) => map.entries.len(),
        }
    }
}
