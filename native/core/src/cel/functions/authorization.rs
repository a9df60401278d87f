//! Questions to the authorizer, and what JSON patches need.

use std::rc::Rc;

use super::super::authority::{Authority, Question};
use super::{Evaluated, Failure, Function, Machine, Value, no_such_overload, text};
use crate::selector::{dns_label_problems, subdomain_problems};

pub(super) fn function(name: &str) -> Option<Function> {
    Some(match name {
        "group" | "path" | "serviceAccount" => of_authorizer,
        "resource" => resource,
        "subresource" | "namespace" | "name" | "fieldSelector" | "labelSelector" => narrowed,
        "check" => check,
        "allowed" | "errored" | "error" | "reason" => told,
        "jsonpatch.escapeKey" => |machine, _, args| {
            let escaped = text(args.first())?.replace('~', "~0").replace('/', "~1");
            machine.new_text(escaped)
        },
        _ => return None,
    })
}

fn asked<'a>(authority: Authority) -> Evaluated<'a> {
    Ok(Value::Authority(Rc::new(authority)))
}

fn authority<'v>(args: &'v [Value<'_>]) -> Result<&'v Authority, Failure> {
    match args.first() {
        Some(Value::Authority(authority)) => Ok(authority),
        _ => Err(super::NO_SUCH_OVERLOAD.into()),
    }
}

fn of_authorizer<'a>(_: &mut Machine<'a>, name: &str, args: &[Value<'a>]) -> Evaluated<'a> {
    let Authority::Authorizer(question) = authority(args)? else { return no_such_overload() };
    let first = text(args.get(1))?.to_owned();
    match name {
        "group" => asked(Authority::Group(Question { group: first, ..question.clone() })),
        "path" if first.trim().is_empty() => Err("path must not be empty".into()),
        "path" => asked(Authority::Path(Question { path: Some(first), ..question.clone() })),
        _ => {
            let account = text(args.get(2))?.to_owned();
            if !subdomain_problems(&account).is_empty() {
                return Err("Invalid service account name".into());
            }
            if !dns_label_problems(&first).is_empty() {
                return Err("Invalid service account namespace".into());
            }
            asked(Authority::Authorizer(Question { account: Some((first, account)), ..question.clone() }))
        }
    }
}

fn resource<'a>(_: &mut Machine<'a>, _: &str, args: &[Value<'a>]) -> Evaluated<'a> {
    let Authority::Group(question) = authority(args)? else { return no_such_overload() };
    let resource = text(args.get(1))?;
    if resource.trim().is_empty() {
        return Err("resource must not be empty".into());
    }
    asked(Authority::Resource(Question { resource: resource.to_owned(), ..question.clone() }))
}

fn narrowed<'a>(_: &mut Machine<'a>, name: &str, args: &[Value<'a>]) -> Evaluated<'a> {
    let Authority::Resource(question) = authority(args)? else { return no_such_overload() };
    let mut question = question.clone();
    let part = match name {
        "subresource" => &mut question.subresource,
        "namespace" => &mut question.namespace,
        "name" => &mut question.name,
        "fieldSelector" => &mut question.field_selector,
        _ => &mut question.label_selector,
    };
    text(args.get(1))?.clone_into(part);
    asked(Authority::Resource(question))
}

fn check<'a>(machine: &mut Machine<'a>, _: &str, args: &[Value<'a>]) -> Evaluated<'a> {
    let (Authority::Path(question) | Authority::Resource(question)) = authority(args)? else {
        return no_such_overload();
    };
    let question = Question { verb: text(args.get(1))?.to_owned(), ..question.clone() };
    asked(Authority::Decision(machine.scope()?.judge.decide(&question)))
}

fn told<'a>(machine: &mut Machine<'a>, name: &str, args: &[Value<'a>]) -> Evaluated<'a> {
    let Authority::Decision(decision) = authority(args)? else { return no_such_overload() };
    match name {
        "allowed" => Ok(Value::Bool(decision.allowed)),
        "errored" => Ok(Value::Bool(decision.error.is_some())),
        "reason" => machine.new_text(decision.reason.clone()),
        _ => machine.new_text(decision.error.clone().unwrap_or_default()),
    }
}
