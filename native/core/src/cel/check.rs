//! Checks the types of an expression and resolves what its calls mean.
//!
//! Semantics and wording of cel-go `checker/checker.go`.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::ast::{Entry, Expr, Fold, Id, Kind, Literal, operators};
use super::declared::Declared;
use super::functions_declared::{Overload, OverloadRef, overloads, overloads_of_admission, type_named};
use super::parser::Parsed;
use super::source::{Faults, Positions};
use super::types::{Bindings, Type, instantiate, most_general};

/// What a node is known to be.
#[derive(Clone, Debug)]
pub(crate) enum Meaning {
    /// The name of a type.
    Type(Type),
    /// A call, and which ways to call the function fit.
    Call(Vec<OverloadRef>),
}

/// A checked expression.
#[derive(Debug)]
pub(crate) struct Checked {
    pub expr: Expr,
    pub types: Vec<Type>,
    pub meanings: FxHashMap<Id, Meaning>,
    pub ty: Type,
    pub positions: Positions,
}

impl Checked {
    pub fn type_of(&self, expr: &Expr) -> &Type {
        &self.types[expr.id as usize]
    }

    pub fn overloads(&self, expr: &Expr) -> &[OverloadRef] {
        match self.meanings.get(&expr.id) {
            Some(Meaning::Call(overloads)) => overloads,
            _ => &[],
        }
    }
}

/// What expressions may use besides their variables.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Abilities {
    /// Questions to the authorizer.
    pub authorization: bool,
    /// Objects and JSON patches that policies make.
    pub patches: bool,
}

/// Checks an expression over the given variables.
pub(crate) fn check(parsed: Parsed, variables: &[(&str, Type)]) -> Result<Checked, Faults> {
    check_with(parsed, variables, Abilities::default())
}

pub(crate) fn check_with(
    parsed: Parsed,
    variables: &[(&str, Type)],
    abilities: Abilities,
) -> Result<Checked, Faults> {
    let Parsed { mut expr, positions } = parsed;
    let mut checker = Checker {
        types: vec![None; positions.count()],
        positions,
        scopes: variables.iter().map(|(name, ty)| ((*name).into(), ty.clone())).collect(),
        bindings: Bindings::default(),
        meanings: FxHashMap::default(),
        faults: Faults::default(),
        abilities,
    };
    checker.expr(&mut expr);
    if !checker.faults.is_empty() {
        return Err(checker.faults);
    }
    let Checker { types, bindings, meanings, positions, .. } = checker;
    let types: Vec<Type> =
        types.into_iter().map(|ty| ty.map_or(Type::Dyn, |ty| bindings.substitute(&ty, true))).collect();
    let ty = types[expr.id as usize].clone();
    Ok(Checked { expr, types, meanings, ty, positions })
}

pub(super) struct Checker {
    types: Vec<Option<Type>>,
    positions: Positions,
    /// Variables, the innermost last.
    scopes: Vec<(Arc<str>, Type)>,
    pub(super) bindings: Bindings,
    meanings: FxHashMap<Id, Meaning>,
    faults: Faults,
    abilities: Abilities,
}

impl Checker {
    fn overloads(&self, name: &str) -> Option<&'static [Overload]> {
        let of_patches = name.starts_with("jsonpatch.");
        let more = if of_patches { self.abilities.patches } else { self.abilities.authorization };
        overloads(name).or_else(|| overloads_of_admission(name).filter(|_| more))
    }

    pub(super) fn fault(&mut self, at: Id, message: String) {
        self.faults.add(Some(self.positions.offset(at)), message);
    }

    fn set(&mut self, id: Id, ty: Type) {
        if ty.is_too_heavy() {
            self.fault(id, "type of expression is too complex".into());
            self.types[id as usize] = Some(Type::Error);
            return;
        }
        self.types[id as usize] = Some(ty);
    }

    pub(super) fn get(&self, id: Id) -> Type {
        self.types[id as usize].clone().unwrap_or(Type::Error)
    }

    fn resolved(&self, id: Id) -> Type {
        self.bindings.substitute(&self.get(id), false)
    }

    pub(super) fn undeclared(&mut self, at: Id, name: &str) {
        self.fault(at, format!("undeclared reference to '{name}' (in container '')"));
        self.set(at, Type::Error);
    }

    fn mismatch(&mut self, at: Id, expected: &Type, found: &Type) {
        self.fault(at, format!("expected type '{}' but found '{}'", expected.shown(), found.shown()));
    }

    /// A variable, or a type by its name.
    pub(super) fn lookup(&self, name: &str) -> Option<(Type, Option<Meaning>)> {
        let name = name.strip_prefix('.').unwrap_or(name);
        if let Some((_, ty)) = self.scopes.iter().rev().find(|(known, _)| **known == *name) {
            return Some((ty.clone(), None));
        }
        let ty = type_named(name).or_else(|| self.abilities.message(name))?;
        Some((Type::Meta(Some(Arc::new(ty.clone()))), Some(Meaning::Type(ty))))
    }

    fn refer(&mut self, id: Id, found: (Type, Option<Meaning>)) {
        self.set(id, found.0);
        if let Some(meaning) = found.1 {
            self.meanings.insert(id, meaning);
        }
    }

    pub(super) fn expr(&mut self, expr: &mut Expr) {
        let id = expr.id;
        match &mut expr.kind {
            Kind::Missing => self.set(id, Type::Error),
            Kind::Literal(literal) => self.set(id, literal_type(literal)),
            Kind::Ident(name) => match self.lookup(name) {
                Some(found) => {
                    if let Some(plain) = name.strip_prefix('.') {
                        *name = plain.into();
                    }
                    self.refer(id, found);
                }
                None => {
                    let name = name.clone();
                    self.undeclared(id, &name);
                }
            },
            Kind::Select { .. } => self.select(expr),
            Kind::Call { .. } => self.call(expr),
            Kind::List { elements, optional } => {
                let optional = std::mem::take(optional);
                let ty = self.list(elements, &optional);
                self.set(id, ty);
                if let Kind::List { optional: slot, .. } = &mut expr.kind {
                    *slot = optional;
                }
            }
            Kind::Map(entries) => {
                let ty = self.map(entries);
                self.set(id, ty);
            }
            Kind::Struct { name, fields } => {
                let name = name.clone();
                let ty = self.structure(id, &name, fields);
                self.set(id, ty);
            }
            Kind::Fold(fold) => {
                let ty = self.fold(fold);
                self.set(id, ty);
            }
        }
    }

    fn select(&mut self, expr: &mut Expr) {
        let id = expr.id;
        // A name with dots in it may be that of a variable or a type.
        if let Some(name) = expr.qualified_name()
            && let Some(found) = self.lookup(&name)
        {
            self.refer(id, found);
            expr.kind = Kind::Ident(name.into());
            return;
        }
        let Kind::Select { operand, field, test } = &mut expr.kind else { return };
        let (field, test) = (field.clone(), *test);
        let result = self.field(id, operand, &field, false);
        let ty = if test { Type::Bool } else { self.bindings.substitute(&result, false) };
        self.set(id, ty);
    }

    fn field(&mut self, id: Id, operand: &mut Expr, field: &str, optional: bool) -> Type {
        self.expr(operand);
        let operand_type = self.resolved(operand.id);
        let (target, was_optional) = match &operand_type {
            Type::Optional(inner) => ((**inner).clone(), true),
            other => (other.clone(), false),
        };
        let result = match &target {
            Type::Map(pair) => pair.1.clone(),
            Type::Object(declared) => match declared.selected(field) {
                Some(field) => Declared::ty(field),
                None => {
                    self.fault(id, format!("undefined field '{field}'"));
                    Type::Error
                }
            },
            Type::Named(_) => {
                self.fault(id, format!("undefined field '{field}'"));
                Type::Error
            }
            Type::Param(_) => {
                self.bindings.assignable(&Type::Dyn, &target);
                Type::Dyn
            }
            Type::Dyn | Type::Error => Type::Dyn,
            other => {
                let shown = other.shown();
                self.fault(id, format!("type '{shown}' does not support field selection"));
                Type::Dyn
            }
        };
        if was_optional || optional { Type::optional(result) } else { result }
    }

    fn call(&mut self, expr: &mut Expr) {
        let id = expr.id;
        let Kind::Call { function, target, args } = &mut expr.kind else { return };
        if &**function == operators::OPTIONAL_SELECT {
            self.optional_select(id, args);
            return;
        }
        for arg in args.iter_mut() {
            self.expr(arg);
        }
        let arg_ids: Vec<Id> = args.iter().map(|arg| arg.id).collect();
        let Some(receiver) = target else {
            let plain = function.strip_prefix('.').unwrap_or(function).to_owned();
            *function = plain.as_str().into();
            match self.overloads(&plain) {
                Some(declared) => self.resolve(id, &plain, declared, None, &arg_ids),
                None => self.undeclared(id, &plain),
            }
            return;
        };
        // `a.b.c()` calls the function a.b.c, if there is one.
        let qualified = receiver
            .qualified_name()
            .map(|prefix| format!("{}.{function}", prefix.strip_prefix('.').unwrap_or(&prefix)));
        if let Some(name) = qualified
            && let Some(declared) = self.overloads(&name)
        {
            *function = name.as_str().into();
            *target = None;
            self.resolve(id, &name, declared, None, &arg_ids);
            return;
        }
        self.expr(receiver);
        let (receiver, function) = (receiver.id, function.clone());
        match self.overloads(&function) {
            Some(declared) => self.resolve(id, &function, declared, Some(receiver), &arg_ids),
            None => self.undeclared(id, &function),
        }
    }

    fn optional_select(&mut self, id: Id, args: &mut [Expr]) {
        let [operand, field] = args else { return };
        let Some(name) = field.string_literal().cloned() else { return };
        self.set(field.id, Type::String);
        let result = self.field(id, operand, &name, true);
        let ty = self.bindings.substitute(&result, false);
        self.set(id, ty);
        let declared = overloads(operators::OPTIONAL_SELECT).unwrap_or_default();
        self.meanings.insert(id, Meaning::Call(declared.iter().collect()));
    }

    fn resolve(
        &mut self,
        id: Id,
        name: &str,
        declared: &'static [Overload],
        receiver: Option<Id>,
        args: &[Id],
    ) {
        if matches!(name, operators::AND | operators::OR) {
            self.logical(id, declared, args);
            return;
        }
        let given: Vec<Type> = receiver.iter().chain(args).map(|arg| self.get(*arg)).collect();
        let mut fitting: Vec<OverloadRef> = Vec::new();
        let mut result: Option<Type> = None;
        for overload in declared.iter().filter(|overload| overload.member == receiver.is_some()) {
            let (wanted, returned) = self.instance(overload);
            if !self.bindings.all_assignable(&given, &wanted) {
                continue;
            }
            fitting.push(overload);
            let returned = self.bindings.substitute(&returned, false);
            result = Some(match result {
                None => returned,
                Some(known) if !known.is_dyn() && !returned.is_exactly(&known) => Type::Dyn,
                Some(known) => known,
            });
        }
        match result {
            Some(ty) => {
                self.set(id, ty);
                self.meanings.insert(id, Meaning::Call(fitting));
            }
            None => {
                let shown = self.signature(&given, receiver.is_some());
                self.fault(id, format!("found no matching overload for '{name}' applied to '{shown}'"));
                self.set(id, Type::Error);
            }
        }
    }

    fn signature(&self, given: &[Type], member: bool) -> String {
        let shown: Vec<String> = given.iter().map(|ty| self.bindings.substitute(ty, true).shown()).collect();
        match shown.split_first() {
            Some((target, args)) if member => format!("{target}.({})", args.join(", ")),
            _ => format!("({})", shown.join(", ")),
        }
    }

    /// The types of an overload with fresh variables.
    fn instance(&mut self, overload: &Overload) -> (Vec<Type>, Type) {
        let mut fresh: FxHashMap<u32, Type> = FxHashMap::default();
        for ty in overload.args.iter().chain([&overload.result]) {
            letters(ty, &mut |letter| {
                fresh.entry(letter).or_insert_with(|| self.bindings.fresh());
            });
        }
        let args = overload.args.iter().map(|ty| instantiate(ty, &fresh)).collect();
        (args, instantiate(&overload.result, &fresh))
    }

    fn logical(&mut self, id: Id, declared: &'static [Overload], args: &[Id]) {
        let mut fits = true;
        for arg in args {
            let ty = self.get(*arg);
            if !self.bindings.assignable(&ty, &Type::Bool) {
                self.mismatch(*arg, &Type::Bool, &ty);
                fits = false;
            }
        }
        self.set(id, if fits { Type::Bool } else { Type::Error });
        self.meanings.insert(id, Meaning::Call(declared.iter().collect()));
    }

    fn list(&mut self, elements: &mut [Expr], optional: &[usize]) -> Type {
        let mut joined: Option<Type> = None;
        for (at, element) in elements.iter_mut().enumerate() {
            self.expr(element);
            let mut ty = self.get(element.id);
            if optional.contains(&at) {
                ty = self.unwrapped(element.id, ty);
            }
            joined = Some(self.join(joined, ty));
        }
        Type::list(joined.unwrap_or_else(|| self.bindings.fresh()))
    }

    /// Of an element written `?element`, which must be optional.
    pub(super) fn unwrapped(&mut self, id: Id, ty: Type) -> Type {
        match ty {
            Type::Optional(inner) => (*inner).clone(),
            other if other.is_dyn() => other,
            other => {
                self.mismatch(id, &Type::optional(other.clone()), &other);
                other
            }
        }
    }

    fn map(&mut self, entries: &mut [Entry]) -> Type {
        let (mut keys, mut values): (Option<Type>, Option<Type>) = (None, None);
        for entry in entries {
            self.expr(&mut entry.key);
            let key = self.get(entry.key.id);
            keys = Some(self.join(keys, key));
            self.expr(&mut entry.value);
            let mut value = self.get(entry.value.id);
            if entry.optional {
                value = self.unwrapped(entry.value.id, value);
            }
            values = Some(self.join(values, value));
        }
        let key = keys.unwrap_or_else(|| self.bindings.fresh());
        let value = values.unwrap_or_else(|| self.bindings.fresh());
        Type::map(key, value)
    }

    /// The type of elements of several types; that most literals must not mix them is looked at later.
    fn join(&mut self, previous: Option<Type>, current: Type) -> Type {
        let Some(previous) = previous else { return current };
        if self.bindings.assignable(&previous, &current) {
            return most_general(&previous, &current);
        }
        Type::Dyn
    }

    fn fold(&mut self, fold: &mut Fold) -> Type {
        self.expr(&mut fold.range);
        self.expr(&mut fold.init);
        let range = self.resolved(fold.range.id);
        let accu = self.get(fold.init.id);
        self.scopes.push((fold.accu.clone(), accu.clone()));
        let (first, second) = match &range {
            Type::List(item) if fold.var2.is_some() => (Type::Int, (**item).clone()),
            Type::List(item) => ((**item).clone(), Type::Dyn),
            Type::Map(pair) => (pair.0.clone(), pair.1.clone()),
            Type::Dyn | Type::Error | Type::Param(_) => {
                self.bindings.assignable(&Type::Dyn, &range);
                (Type::Dyn, Type::Dyn)
            }
            other => {
                let shown = other.shown();
                self.fault(
                    fold.range.id,
                    format!(
                        "expression of type '{shown}' cannot be range of a comprehension (must be list, map, or \
                         dynamic)"
                    ),
                );
                (Type::Error, Type::Error)
            }
        };
        let before = self.scopes.len();
        self.scopes.push((fold.var.clone(), first));
        if let Some(name) = &fold.var2 {
            self.scopes.push((name.clone(), second));
        }
        self.expr(&mut fold.condition);
        self.assert(fold.condition.id, &Type::Bool);
        self.expr(&mut fold.step);
        self.assert(fold.step.id, &accu);
        self.scopes.truncate(before);
        self.expr(&mut fold.result);
        self.scopes.pop();
        self.resolved(fold.result.id)
    }

    fn assert(&mut self, id: Id, expected: &Type) {
        let found = self.get(id);
        if !self.bindings.assignable(expected, &found) {
            self.mismatch(id, expected, &found);
        }
    }
}

fn literal_type(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}

fn letters(ty: &Type, see: &mut impl FnMut(u32)) {
    match ty {
        Type::Param(letter) => see(*letter),
        Type::List(inner) | Type::Optional(inner) | Type::Meta(Some(inner)) => letters(inner, see),
        Type::Map(pair) => {
            letters(&pair.0, see);
            letters(&pair.1, see);
        }
        _ => {}
    }
}
