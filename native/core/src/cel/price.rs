//! What calls cost while they run.
//!
//! Semantics of cel-go `interpreter/runtimecost.go`, of its list and set extensions, and of apiserver
//! `pkg/cel/library/cost.go` (`CallCost`).

use super::ast::operators;
use super::estimate::{LIST_COST, PATTERN, TRAVERSE};
use super::formats;
use super::functions_declared::OverloadRef;
use super::types::Type;
use super::value::{List, Map, Value};

/// What a question to the authorizer costs.
const QUESTION: u64 = 350_000;

/// How the price of a call follows from its arguments, told by their positions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Price {
    Fixed(u64),
    /// The size of an argument, scaled.
    Size(usize, f64),
    /// The sizes of the first two together.
    Sizes,
    /// The smaller of the first two.
    Smaller,
    /// As `Smaller`, but values of Kubernetes' own types are compared for 1.
    Equality,
    Matches,
    Contains,
    /// Everything in the first, through all levels.
    Traversal,
    /// The size of the result, scaled.
    Result(f64),
    /// A new list of the result's size.
    NewList,
    Flatten,
    /// Each element of this list against every other.
    SelfCompare(usize),
    Sets(f64),
    Validate,
    ContainsIp {
        text: bool,
    },
    ContainsCidr {
        text: bool,
    },
}

impl Price {
    /// `overload` where only one fits; without it, only the name counts.
    pub fn of(name: &str, overload: Option<OverloadRef>) -> Self {
        Self::by_overload(name, overload)
            .or_else(|| Self::by_name(name, overload))
            .or_else(|| Self::standard(name, overload))
            .unwrap_or(Self::Fixed(1))
    }

    fn by_overload(name: &str, overload: Option<OverloadRef>) -> Option<Self> {
        overload?;
        Some(match name {
            "slice" | "lists.range" | "reverse" => Self::NewList,
            "flatten" => Self::Flatten,
            "distinct" | "sort" => Self::SelfCompare(0),
            operators::SORT_BY_KEYS => Self::SelfCompare(1),
            "sets.contains" | "sets.intersects" => Self::Sets(1.0),
            "sets.equivalent" => Self::Sets(2.0),
            _ => return None,
        })
    }

    fn by_name(name: &str, overload: Option<OverloadRef>) -> Option<Self> {
        let takes = |at: usize, wanted: &Type| {
            overload.is_some_and(|overload| overload.args.get(at).is_some_and(|ty| ty.is_exactly(wanted)))
        };
        Some(match name {
            "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => Self::Traversal,
            "check" => Self::Fixed(QUESTION),
            "url" | "lowerAscii" | "upperAscii" | "substring" | "trim" | "jsonpatch.escapeKey" => {
                Self::Size(0, TRAVERSE)
            }
            "replace" | "split" => Self::Size(0, 2.0 * TRAVERSE),
            "join" => Self::Result(2.0 * TRAVERSE),
            "find" | "findAll" => Self::Matches,
            "ip" if takes(0, &Type::Named("net.CIDR")) => Self::Fixed(1),
            "cidr" | "isIP" | "isCIDR" | "ip" | "quantity" | "isQuantity" | "semver" | "isSemver" => {
                Self::Size(0, TRAVERSE)
            }
            "ip.isCanonical" => Self::Size(0, 2.0 * TRAVERSE),
            "containsIP" => Self::ContainsIp { text: takes(1, &Type::String) },
            "containsCIDR" => Self::ContainsCidr { text: takes(1, &Type::String) },
            "validate" => Self::Validate,
            operators::EQUALS => Self::Equality,
            _ => return None,
        })
    }

    fn standard(name: &str, overload: Option<OverloadRef>) -> Option<Self> {
        if name == operators::NOT_EQUALS {
            return Some(Self::Smaller);
        }
        let overload = overload?;
        Some(match (name, overload.args.first(), overload.member) {
            ("startsWith" | "endsWith" | "strings.quote" | "format", ..) => Self::Size(0, TRAVERSE),
            ("bytes", Some(Type::String), _) | ("string", Some(Type::Bytes), _) => Self::Size(0, TRAVERSE),
            (operators::IN, ..) if matches!(overload.args[1], Type::List(_)) => Self::Size(1, 1.0),
            (
                operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS,
                Some(Type::String | Type::Bytes),
                _,
            ) => Self::Smaller,
            (operators::ADD, Some(Type::String | Type::Bytes), _) => Self::Sizes,
            ("matches", _, true) => Self::Matches,
            ("contains", ..) => Self::Contains,
            _ => return None,
        })
    }

    /// What is known before the call.
    pub fn before(self, args: &[Value<'_>]) -> u64 {
        let size = |at: usize| args.get(at).map_or(1, Value::size);
        match self {
            Self::Fixed(cost) => cost,
            Self::Size(at, factor) => scaled(size(at), factor),
            Self::Sizes => scaled(size(0) + size(1), TRAVERSE),
            Self::Smaller => scaled(size(0).min(size(1)), TRAVERSE),
            Self::Equality => match args.first() {
                Some(
                    Value::Quantity(_)
                    | Value::Ip(_)
                    | Value::Cidr(..)
                    | Value::Format(_)
                    | Value::Url(_)
                    | Value::Semver(_),
                ) => 1,
                _ => scaled(size(0).min(size(1)), TRAVERSE),
            },
            Self::Matches => scaled(size(0) + 1, TRAVERSE).saturating_mul(scaled(size(1), PATTERN)),
            Self::Contains => scaled(size(0), TRAVERSE).saturating_mul(scaled(size(1), TRAVERSE)),
            Self::Traversal => args.first().map_or(1, traversal),
            Self::Flatten => {
                let depth = match args.get(1) {
                    Some(Value::Int(depth)) => *depth as f64,
                    _ => 1.0,
                };
                // Of a negative depth upstream makes a great number, which the addition wraps around again.
                ((size(0) as f64 * depth) as i64 as u64).wrapping_add(1 + LIST_COST)
            }
            Self::SelfCompare(at) => {
                let of_text = match args.get(at) {
                    Some(Value::List(list)) => begins_with_text(list),
                    _ => false,
                };
                let factor = if of_text { 2.0 + TRAVERSE } else { 2.0 };
                let square = size(at).saturating_mul(size(at)) as f64;
                ((square * factor) as u64).saturating_add(1 + LIST_COST)
            }
            Self::Sets(factor) => {
                let product = size(0).saturating_mul(size(1)) as f64;
                ((product * factor) as u64).saturating_add(1)
            }
            Self::Validate => {
                let Some(Value::Format(name)) = args.first() else { return 1 };
                let pattern = formats::pattern_size(name);
                scaled(size(1) + 1, TRAVERSE) * scaled(pattern, PATTERN)
            }
            Self::ContainsIp { text } => {
                scaled(2 * size(0), TRAVERSE) + if text { scaled(size(1), TRAVERSE) } else { 0 }
            }
            Self::ContainsCidr { text } => {
                scaled(2 * size(0), TRAVERSE)
                    + scaled(size(0), TRAVERSE)
                    + 1
                    + if text { scaled(size(1), TRAVERSE) } else { 0 }
            }
            Self::Result(_) | Self::NewList => 0,
        }
    }

    /// What only the result tells.
    pub fn after(self, result: &Value<'_>) -> u64 {
        match self {
            Self::Result(factor) => scaled(result.size(), factor),
            Self::NewList => result.size() + 1 + LIST_COST,
            _ => 0,
        }
    }
}

fn scaled(size: u64, factor: f64) -> u64 {
    (size as f64 * factor).ceil() as u64
}

fn begins_with_text(list: &List<'_>) -> bool {
    match list {
        List::Json { elements, .. } | List::Plain(elements) => {
            elements.first().is_some_and(serde_json::Value::is_string)
        }
        List::Owned { elements, .. } => {
            matches!(elements.first(), Some(Value::String(_) | Value::Bytes(_)))
        }
    }
}

/// Of texts a tenth of their bytes, of everything else 1 for each value.
fn traversal(value: &Value<'_>) -> u64 {
    let text = |length: usize| (length as f64 * TRAVERSE) as u64;
    match value {
        Value::String(value) => text(value.as_str().len()),
        Value::Bytes(bytes) => text(bytes.len()),
        Value::List(List::Json { elements, .. } | List::Plain(elements)) => {
            elements.iter().map(json_traversal).sum()
        }
        Value::List(List::Owned { elements, .. }) => elements.iter().map(traversal).sum(),
        Value::Map(Map::Json { members, .. } | Map::Plain(members)) => {
            members.iter().map(|(name, value)| text(name.len()) + json_traversal(value)).sum()
        }
        Value::Map(Map::Owned(map)) => {
            map.entries.iter().map(|(key, value)| traversal(key) + traversal(value)).sum()
        }
        _ => 1,
    }
}

fn json_traversal(value: &serde_json::Value) -> u64 {
    use serde_json::Value as Json;
    let text = |length: usize| (length as f64 * TRAVERSE) as u64;
    match value {
        Json::String(value) => text(value.len()),
        Json::Array(elements) => elements.iter().map(json_traversal).sum(),
        Json::Object(members) => {
            members.iter().map(|(name, value)| text(name.len()) + json_traversal(value)).sum()
        }
        _ => 1,
    }
}
