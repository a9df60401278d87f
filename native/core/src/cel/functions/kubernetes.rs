//! Kubernetes' libraries of quantities, versions and named formats.

use std::cmp::Ordering;
use std::rc::Rc;

use super::super::formats;
use super::super::quantity::Quantity;
use super::super::semver::Semver;
use super::{Evaluated, Failure, Function, Machine, Value, no_such_overload, text, texts};

pub(super) fn function(name: &str) -> Option<Function> {
    Some(match name {
        "quantity" => |_, _, args| Ok(Value::Quantity(Quantity::parse(text(args.first())?)?)),
        "isQuantity" => |_, _, args| Ok(Value::Bool(Quantity::parse(text(args.first())?).is_ok())),
        "sign" => |_, _, args| Ok(Value::Int(quantity(args)?.sign())),
        "isInteger" => |_, _, args| Ok(Value::Bool(quantity(args)?.as_integer().is_some())),
        "asInteger" => |_, _, args| {
            quantity(args)?
                .as_integer()
                .map(Value::Int)
                .ok_or_else(|| "cannot convert value to integer".into())
        },
        "asApproximateFloat" => |_, _, args| Ok(Value::Double(quantity(args)?.as_float())),
        "add" => |_, _, args| Ok(Value::Quantity(quantity(args)?.plus(other(args)?))),
        "sub" => |_, _, args| Ok(Value::Quantity(quantity(args)?.minus(other(args)?))),
        "isGreaterThan" => |_, _, args| Ok(Value::Bool(compare(args)?.is_gt())),
        "isLessThan" => |_, _, args| Ok(Value::Bool(compare(args)?.is_lt())),
        "compareTo" => |_, _, args| Ok(Value::Int(compare(args)? as i64)),
        "semver" => |_, _, args| Ok(Value::Semver(Rc::new(parse_semver(args)??))),
        "isSemver" => |_, _, args| Ok(Value::Bool(parse_semver(args)?.is_ok())),
        "major" => |_, _, args| part(args, |version| version.major),
        "minor" => |_, _, args| part(args, |version| version.minor),
        "patch" => |_, _, args| part(args, |version| version.patch),
        "format.named" => |_, _, args| {
            let found = formats::named(text(args.first())?);
            Ok(found.map_or(Value::Optional(None), |name| Value::some(Value::Format(name))))
        },
        "validate" => validate,
        name if name.starts_with("format.") => |_, name, _| match formats::named(&name[7..]) {
            Some(name) => Ok(Value::Format(name)),
            None => no_such_overload(),
        },
        _ => return None,
    })
}

fn quantity(args: &[Value<'_>]) -> Result<Quantity, Failure> {
    match args.first() {
        Some(Value::Quantity(quantity)) => Ok(*quantity),
        _ => Err(super::NO_SUCH_OVERLOAD.into()),
    }
}

fn other(args: &[Value<'_>]) -> Result<Quantity, Failure> {
    match args.get(1) {
        Some(Value::Quantity(quantity)) => Ok(*quantity),
        Some(Value::Int(value)) => Ok(Quantity::of_integer(*value)),
        _ => Err(super::NO_SUCH_OVERLOAD.into()),
    }
}

fn compare(args: &[Value<'_>]) -> Result<Ordering, Failure> {
    match args {
        [Value::Quantity(a), Value::Quantity(b)] => Ok(a.compare(*b)),
        [Value::Semver(a), Value::Semver(b)] => Ok(a.compare(b)),
        _ => Err(super::NO_SUCH_OVERLOAD.into()),
    }
}

fn parse_semver(args: &[Value<'_>]) -> Result<Result<Semver, String>, Failure> {
    let text = text(args.first())?;
    Ok(match args.get(1) {
        Some(Value::Bool(true)) => Semver::parse_tolerant(text),
        None | Some(Value::Bool(false)) => Semver::parse(text),
        _ => return Err(super::NO_SUCH_OVERLOAD.into()),
    })
}

fn part<'a>(args: &[Value<'a>], of: fn(&Semver) -> u64) -> Evaluated<'a> {
    match args {
        [Value::Semver(version)] => Ok(Value::Int(of(version) as i64)),
        _ => no_such_overload(),
    }
}

fn validate<'a>(machine: &mut Machine<'a>, _: &str, args: &[Value<'a>]) -> Evaluated<'a> {
    let Some(Value::Format(name)) = args.first() else { return no_such_overload() };
    let problems = formats::problems(name, text(args.get(1))?);
    if problems.is_empty() {
        return Ok(Value::Optional(None));
    }
    Ok(Value::some(texts(machine, problems)?))
}
