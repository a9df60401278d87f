//! What single calls can cost at most: Kubernetes' libraries, the list and set extensions, the standard library.

use super::ast::{Kind, Literal, operators};
use super::estimate::{CallCost, LIST_COST, Node, PATTERN, Range, TRAVERSE};
use super::functions_declared::OverloadRef;
use super::types::Type;

/// Formats that strings are validated by are patterns of about this length.
const FORMAT_PATTERN: f64 = 128.0;
const MAX_FORMAT: u64 = 64;

fn cost(cost: Range) -> Option<CallCost> {
    Some(CallCost { cost, result: None })
}

fn sized(cost: Range, result: Range) -> Option<CallCost> {
    Some(CallCost { cost, result: Some(result) })
}

/// Calls of the list and set extensions and of Kubernetes' own libraries; None for others.
pub(super) fn library(
    function: &str,
    overload: OverloadRef,
    target: Option<&Node<'_>>,
    args: &[Node<'_>],
) -> Option<CallCost> {
    extension(function, overload, target, args).or_else(|| kubernetes(function, overload, target, args))
}

fn extension(
    function: &str,
    overload: OverloadRef,
    target: Option<&Node<'_>>,
    args: &[Node<'_>],
) -> Option<CallCost> {
    match (function, target, args) {
        ("slice", Some(target), [start, end]) => {
            let (start, end) = (integer(start, 0), integer(end, target.size_or_unknown().max));
            allocating(1.0, Range::fixed(end.wrapping_sub(start)))
        }
        ("flatten", Some(target), args) => {
            let depth = args.first().map_or(1, |depth| integer(depth, u64::MAX));
            allocating(depth as f64, target.size_or_unknown())
        }
        ("lists.range", None, [count]) => allocating(1.0, Range::fixed(integer(count, u64::MAX))),
        ("reverse", Some(target), []) => allocating(1.0, target.size_or_unknown()),
        ("distinct", Some(target), []) => {
            let size = target.size_or_unknown();
            allocating(2.0, size.times(size))
        }
        ("sort", Some(target), []) => sorting(target, &overload.args[0]),
        (operators::SORT_BY_KEYS, Some(_), [keys]) => sorting(keys, &overload.args[1]),
        ("sets.contains" | "sets.intersects" | "sets.equivalent", None, [left, right]) => {
            let factor = if function == "sets.equivalent" { 2.0 } else { 1.0 };
            let product = left.size_or_unknown().times(right.size_or_unknown());
            cost(product.scaled(factor).plus(Range::fixed(1)))
        }
        _ => None,
    }
}

fn allocating(factor: f64, size: Range) -> Option<CallCost> {
    sized(size.scaled(factor).plus(Range::fixed(1 + LIST_COST)), size)
}

fn sorting(keys: &Node<'_>, list: &Type) -> Option<CallCost> {
    let of_text = matches!(list, Type::List(item) if matches!(**item, Type::String | Type::Bytes));
    let size = keys.size_or_unknown();
    allocating(if of_text { 2.0 + TRAVERSE } else { 2.0 }, size.times(size))
}

fn integer(node: &Node<'_>, otherwise: u64) -> u64 {
    match &node.expr.kind {
        Kind::Literal(Literal::Int(value)) => u64::try_from(*value).unwrap_or(0),
        _ => otherwise,
    }
}

fn kubernetes(
    function: &str,
    overload: OverloadRef,
    target: Option<&Node<'_>>,
    args: &[Node<'_>],
) -> Option<CallCost> {
    let first = || args.first().map(Node::size_or_unknown);
    match function {
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => {
            let target = target?;
            let size = target.size_or_unknown();
            match element(target) {
                Some((Type::String | Type::Bytes, element)) => {
                    cost(size.times(Range::fixed(1).plus(element.scaled(TRAVERSE))))
                }
                Some(_) => cost(size),
                None => cost(size.scaled(TRAVERSE)),
            }
        }
        "url" => {
            let size = first()?;
            sized(size.scaled(TRAVERSE), size)
        }
        "lowerAscii" | "upperAscii" | "substring" | "trim" => {
            let size = target?.size_or_unknown();
            sized(size.scaled(TRAVERSE), size)
        }
        "replace" => {
            let [from, to, ..] = args else { return None };
            let size = target?.size_or_unknown();
            let result = replaced(size, from.size_or_unknown(), to.size_or_unknown());
            sized(size.scaled(2.0 * TRAVERSE), result)
        }
        "split" => {
            let size = target?.size_or_unknown();
            let most = match args.get(1).map(|arg| &arg.expr.kind) {
                Some(Kind::Literal(Literal::Int(limit))) => *limit as u64,
                _ => size.max,
            };
            sized(size.scaled(2.0 * TRAVERSE), Range { min: 0, max: most })
        }
        "join" => {
            let target = target?;
            let list = target.size_or_unknown();
            let mut size = element(target).map_or(Range::ZERO, |(_, element)| list.times(element));
            if let Some(separator) = args.first() {
                let times = Range { min: list.min.saturating_sub(1), max: list.max.saturating_sub(1) };
                size = size.plus(separator.size_or_unknown().times(times));
            }
            sized(size.scaled(TRAVERSE), size)
        }
        "find" | "findAll" => {
            let size = target?.size_or_unknown();
            let text = size.plus(Range::fixed(1)).scaled(TRAVERSE);
            let pattern = first()?.scaled(PATTERN);
            sized(text.times(pattern), Range { min: 0, max: size.max })
        }
        operators::EQUALS => equality(args),
        _ => parsed(function, overload, args),
    }
}

/// The calls of addresses, quantities, versions, URLs and formats.
fn parsed(function: &str, overload: OverloadRef, args: &[Node<'_>]) -> Option<CallCost> {
    let first = || args.first().map(Node::size_or_unknown);
    match function {
        "ip" if matches!(overload.args.first(), Some(Type::Named("net.CIDR"))) => cost(Range::fixed(1)),
        "cidr" | "isIP" | "isCIDR" | "ip" | "quantity" | "isQuantity" | "semver" | "isSemver" => {
            cost(first()?.scaled(TRAVERSE))
        }
        "ip.isCanonical" => cost(first()?.scaled(2.0 * TRAVERSE)),
        "masked"
        | "prefixLength"
        | "family"
        | "isUnspecified"
        | "isLoopback"
        | "isLinkLocalMulticast"
        | "isLinkLocalUnicast"
        | "isGlobalUnicast" => cost(Range::fixed(1)),
        "containsIP" | "containsCIDR" => {
            let arg = args.first()?;
            let bytes = Range { min: 4, max: 16 };
            let mut sum = bytes.plus(bytes).scaled(TRAVERSE);
            if function == "containsCIDR" {
                sum = sum.plus(bytes.scaled(TRAVERSE)).plus(Range::fixed(1));
            }
            if matches!(overload.args.get(1), Some(Type::String)) {
                sum = sum.plus(arg.size_or_unknown().scaled(TRAVERSE));
            }
            cost(sum)
        }
        "validate" => cost(first()?.scaled(TRAVERSE).scaled(FORMAT_PATTERN * PATTERN)),
        "format.named" | "sign" | "asInteger" | "isInteger" | "asApproximateFloat" | "isGreaterThan"
        | "isLessThan" | "compareTo" | "add" | "sub" | "major" | "minor" | "patch" | "getScheme"
        | "getHostname" | "getHost" | "getPort" | "getEscapedPath" | "getQuery" => cost(Range::fixed(1)),
        _ => None,
    }
}

/// Kubernetes' own types are compared at a price of their own.
fn equality(args: &[Node<'_>]) -> Option<CallCost> {
    let [left, right] = args else { return None };
    let (Type::Named(name), Type::Named(other)) = (left.ty, right.ty) else { return None };
    if name != other {
        return None;
    }
    match *name {
        "kubernetes.NamedFormat" => cost(Range { min: 1, max: MAX_FORMAT }.scaled(TRAVERSE)),
        "kubernetes.URL" => {
            let most = right.size.map_or(1, |size| size.max);
            cost(Range { min: 1, max: most }.scaled(TRAVERSE))
        }
        _ => cost(Range::fixed(1)),
    }
}

/// The type of a list's elements and how long they are.
fn element<'e>(list: &'e Node<'e>) -> Option<(&'e Type, Range)> {
    let item = match list.ty {
        Type::List(item) | Type::Optional(item) => &**item,
        Type::Map(pair) => &pair.0,
        _ => return None,
    };
    Some((item, list.path.element_size().unwrap_or(Range::UNKNOWN)))
}

/// How long a text is after replacements.
fn replaced(size: Range, from: Range, to: Range) -> Range {
    let (mut count, mut kept) = (Range::ZERO, Range::ZERO);
    if from.min == 0 {
        count.max = size.max.saturating_add(1);
        kept.max = size.max;
    } else if to.max <= from.min {
        kept.max = size.max;
    } else {
        count.max = (size.max as f64 / from.min as f64).ceil() as u64;
    }
    if from.max == 0 {
        count.min = size.min.saturating_add(1);
        kept.min = size.min;
    } else if from.max <= to.min {
        kept.min = size.min;
    } else {
        count.min = (size.min as f64 / from.max as f64).ceil() as u64;
    }
    count.times(to).plus(kept)
}

/// Calls of the standard library; those that are not of a price of their own cost 1.
pub(super) fn standard(
    function: &str,
    overload: OverloadRef,
    target: Option<&Node<'_>>,
    args: &[Node<'_>],
) -> CallCost {
    let own = match (function, overload.args.first(), target, args) {
        ("format", _, Some(target), _) => cost(target.size_or_unknown().scaled(TRAVERSE)),
        ("bytes", Some(Type::String), None, [arg]) => {
            let size = arg.size_or_unknown();
            let result = Range { min: size.min, max: size.max.wrapping_mul(4) };
            sized(size.scaled(TRAVERSE), result)
        }
        ("string", Some(Type::Bytes), None, [arg]) => {
            let size = arg.size_or_unknown();
            sized(size.scaled(TRAVERSE), Range { min: size.min / 4, max: size.max })
        }
        ("strings.quote", _, None, [arg]) => {
            let size = arg.size_or_unknown();
            let result =
                Range { min: size.min.wrapping_add(2), max: size.max.wrapping_mul(2).wrapping_add(2) };
            sized(size.scaled(TRAVERSE), result)
        }
        ("startsWith" | "endsWith", _, _, [arg]) => cost(arg.size_or_unknown().scaled(TRAVERSE)),
        (operators::IN, _, None, [_, list]) if matches!(overload.args[1], Type::List(_)) => {
            cost(list.size_or_unknown())
        }
        ("matches", _, Some(target), [pattern]) => {
            let text = target.size_or_unknown().plus(Range::fixed(1)).scaled(TRAVERSE);
            cost(text.times(pattern.size_or_unknown().scaled(PATTERN)))
        }
        ("contains", _, Some(target), [part]) => {
            let text = target.size_or_unknown().scaled(TRAVERSE);
            cost(text.times(part.size_or_unknown().scaled(TRAVERSE)))
        }
        (
            operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS,
            Some(Type::String | Type::Bytes),
            ..,
        )
        | (operators::EQUALS | operators::NOT_EQUALS, ..) => comparison(args),
        _ => None,
    };
    own.unwrap_or(CallCost { cost: Range::fixed(1), result: None })
}

fn comparison(args: &[Node<'_>]) -> Option<CallCost> {
    let [left, right] = args else { return None };
    let most = left.size_or_unknown().max.min(right.size_or_unknown().max);
    cost(Range { min: u64::from(most > 0), max: most }.scaled(TRAVERSE))
}
