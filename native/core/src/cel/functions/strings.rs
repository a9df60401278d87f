//! Texts: cel-go's string extension (version 2) and regular expressions.

use std::sync::Arc;

use regex::Regex;

use super::{
    Evaluated, Failure, Function, Machine, Value, format, integer, list, lists, no_such_overload, text, texts,
};
use crate::re2;

pub(super) fn function(name: &str) -> Option<Function> {
    Some(match name {
        "charAt" => char_at,
        "contains" => |_, _, args| Ok(Value::Bool(text(args.first())?.contains(text(args.get(1))?))),
        "startsWith" => |_, _, args| Ok(Value::Bool(text(args.first())?.starts_with(text(args.get(1))?))),
        "endsWith" => |_, _, args| Ok(Value::Bool(text(args.first())?.ends_with(text(args.get(1))?))),
        "matches" => |machine, _, args| match pattern(machine, args)? {
            Ok(pattern) => Ok(Value::Bool(pattern.is_match(text(args.first())?))),
            Err(problem) => Err(problem.into()),
        },
        "find" => find,
        "findAll" => find_all,
        "format" => format::format,
        "indexOf" => |machine, name, args| match args.first() {
            Some(Value::List(_)) => lists::position(machine, name, args),
            _ => index_of(args),
        },
        "lastIndexOf" => |machine, name, args| match args.first() {
            Some(Value::List(_)) => lists::position(machine, name, args),
            _ => last_index_of(args),
        },
        "join" => join,
        "lowerAscii" => |machine, _, args| machine.new_text(text(args.first())?.to_ascii_lowercase()),
        "upperAscii" => |machine, _, args| machine.new_text(text(args.first())?.to_ascii_uppercase()),
        "replace" => replace,
        "split" => split,
        "strings.quote" => |machine, _, args| machine.new_text(quoted(text(args.first())?)),
        "substring" => substring,
        "trim" => |machine, _, args| machine.new_text(text(args.first())?.trim().to_owned()),
        _ => return None,
    })
}

fn out_of_range<T>(at: i64) -> Result<T, Failure> {
    Err(format!("index out of range: {at}").into())
}

fn char_at<'a>(machine: &mut Machine<'a>, _: &str, args: &[Value<'a>]) -> Evaluated<'a> {
    let (subject, at) = (text(args.first())?, integer(args.get(1))?);
    let Ok(position) = usize::try_from(at) else { return out_of_range(at) };
    match subject.chars().nth(position) {
        Some(c) => machine.new_text(c.to_string()),
        None if subject.chars().count() == position => machine.new_text(String::new()),
        None => out_of_range(at),
    }
}

/// Upstream asks nothing for making a program of a pattern, of which a list can hold as many as it likes.
fn pattern(machine: &mut Machine<'_>, args: &[Value<'_>]) -> Result<Result<Arc<Regex>, String>, Failure> {
    let (compiled, work) = re2::compile_priced(text(args.get(1))?);
    machine.work(work)?;
    Ok(compiled)
}

fn find<'a>(machine: &mut Machine<'a>, _: &str, args: &[Value<'a>]) -> Evaluated<'a> {
    let pattern = pattern(machine, args)?.map_err(|problem| format!("Illegal regex: {problem}"))?;
    let found = pattern.find(text(args.first())?).map_or("", |found| found.as_str());
    machine.new_text(found.to_owned())
}

fn find_all<'a>(machine: &mut Machine<'a>, _: &str, args: &[Value<'a>]) -> Evaluated<'a> {
    let pattern = pattern(machine, args)?.map_err(|problem| format!("Illegal regex: {problem}"))?;
    let most = match args.get(2) {
        Some(limit) => usize::try_from(integer(Some(limit))?).unwrap_or(usize::MAX),
        None => usize::MAX,
    };
    let subject = text(args.first())?;
    machine.allocate(subject.len())?;
    let found = pattern.find_iter(subject).take(most).map(|found| found.as_str().to_owned()).collect();
    texts(machine, found)
}

fn index_of<'a>(args: &[Value<'a>]) -> Evaluated<'a> {
    let (subject, part) = (text(args.first())?, text(args.get(1))?);
    let offset = args.get(2).map_or(Ok(0), |offset| integer(Some(offset)))?;
    if part.is_empty() {
        return Ok(Value::Int(offset));
    }
    let Ok(skipped) = usize::try_from(offset) else { return out_of_range(offset) };
    let Some((begin, _)) = subject.char_indices().nth(skipped) else { return Ok(Value::Int(-1)) };
    let found = subject[begin..].find(part);
    Ok(Value::Int(found.map_or(-1, |at| offset + subject[begin..begin + at].chars().count() as i64)))
}

fn last_index_of<'a>(args: &[Value<'a>]) -> Evaluated<'a> {
    let (subject, part) = (text(args.first())?, text(args.get(1))?);
    let length = subject.chars().count() as i64;
    let offset = args.get(2).map_or(Ok(None), |offset| integer(Some(offset)).map(Some))?;
    if part.is_empty() {
        return Ok(Value::Int(offset.unwrap_or(length)));
    }
    let offset = match offset {
        None if subject.len() < part.len() => return Ok(Value::Int(-1)),
        None => length - 1,
        Some(offset) => offset,
    };
    if offset < 0 {
        return out_of_range(offset);
    }
    if offset >= length {
        return Ok(Value::Int(-1));
    }
    // The part may begin at the offset at the latest.
    let last = offset.min(length - part.chars().count() as i64);
    let Ok(last) = usize::try_from(last) else { return Ok(Value::Int(-1)) };
    let begin = subject.char_indices().nth(last).map_or(subject.len(), |(begin, _)| begin);
    let end = (begin + part.len()).min(subject.len());
    let end = (end..=subject.len()).find(|at| subject.is_char_boundary(*at)).unwrap_or(subject.len());
    let found = subject[..end].rmatch_indices(part).map(|(at, _)| at).find(|at| *at <= begin);
    Ok(Value::Int(found.map_or(-1, |at| subject[..at].chars().count() as i64)))
}

fn join<'a>(machine: &mut Machine<'a>, _: &str, args: &[Value<'a>]) -> Evaluated<'a> {
    let parts = list(args.first())?;
    let separator = args.get(1).map_or(Ok(""), |separator| text(Some(separator)))?;
    let mut joined = String::new();
    for at in 0..parts.len() {
        if at > 0 {
            joined.push_str(separator);
        }
        match machine.at(parts, at)? {
            Value::String(part) => {
                machine.allocate(part.as_str().len() + separator.len())?;
                joined.push_str(part.as_str());
            }
            other => return Err(format!("join: invalid input: {}", super::super::show::plain(&other)).into()),
        }
    }
    Ok(Value::text(joined))
}

fn replace<'a>(machine: &mut Machine<'a>, _: &str, args: &[Value<'a>]) -> Evaluated<'a> {
    let (subject, from, to) = (text(args.first())?, text(args.get(1))?, text(args.get(2))?);
    let most = args.get(3).map_or(Ok(-1), |most| integer(Some(most)))?;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    // Checked before it is made: a short text can grow without bounds.
    let times =
        if from.is_empty() { subject.chars().count() + 1 } else { subject.matches(from).take(most).count() };
    machine.allocate(subject.len().saturating_add(times.min(most).saturating_mul(to.len())))?;
    Ok(Value::text(subject.replacen(from, to, most)))
}

fn split<'a>(machine: &mut Machine<'a>, _: &str, args: &[Value<'a>]) -> Evaluated<'a> {
    let (subject, separator) = (text(args.first())?, text(args.get(1))?);
    let most = args.get(2).map_or(Ok(-1), |most| integer(Some(most)))?;
    let Ok(most) = usize::try_from(most).or(if most < 0 { Ok(usize::MAX) } else { Err(()) }) else {
        return no_such_overload();
    };
    if most == 0 {
        return machine.new_list(Vec::new());
    }
    machine.allocate(subject.len())?;
    let parts: Vec<String> = if separator.is_empty() {
        let mut rest = subject.chars();
        let mut parts: Vec<String> = rest.by_ref().take(most - 1).map(String::from).collect();
        if !rest.as_str().is_empty() {
            parts.push(rest.as_str().to_owned());
        }
        parts
    } else {
        subject.splitn(most, separator).map(str::to_owned).collect()
    };
    texts(machine, parts)
}

fn quoted(subject: &str) -> String {
    let mut out = String::with_capacity(subject.len() + 2);
    out.push('"');
    for c in subject.chars() {
        match c {
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn substring<'a>(machine: &mut Machine<'a>, _: &str, args: &[Value<'a>]) -> Evaluated<'a> {
    let (subject, start) = (text(args.first())?, integer(args.get(1))?);
    let length = subject.chars().count() as i64;
    let end = match args.get(2) {
        None => length,
        Some(end) => {
            let end = integer(Some(end))?;
            if start > end {
                return Err(format!("invalid substring range. start: {start}, end: {end}").into());
            }
            end
        }
    };
    for at in [start, end] {
        if !(0..=length).contains(&at) {
            return out_of_range(at);
        }
    }
    let part = subject.chars().skip(start as usize).take((end - start) as usize).collect();
    machine.new_text(part)
}
