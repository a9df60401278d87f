//! Types of expressions, and how they unify.
//!
//! Semantics of cel-go `checker/types.go`.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::declared::Declared;

/// Types that contain more than this are of no use, and dear to handle.
const MAX_WEIGHT: u32 = 10_000;

#[derive(Clone, Debug)]
pub(crate) enum Type {
    /// Checked at run time only.
    Dyn,
    /// Of what is faulty; fits anywhere, so that a fault is told once.
    Error,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Duration,
    Timestamp,
    List(Arc<Type>),
    Map(Arc<(Type, Type)>),
    /// An object of a schema.
    Object(Arc<Declared>),
    /// One of Kubernetes' types: `kubernetes.Quantity`.
    Named(&'static str),
    Optional(Arc<Type>),
    /// The type of a type.
    Meta(Option<Arc<Type>>),
    /// A variable.
    Param(u32),
}

impl Type {
    pub fn list(item: Type) -> Self {
        Self::List(Arc::new(item))
    }

    pub fn map(key: Type, value: Type) -> Self {
        Self::Map(Arc::new((key, value)))
    }

    pub fn optional(inner: Type) -> Self {
        Self::Optional(Arc::new(inner))
    }

    fn params(&self) -> [Option<&Type>; 2] {
        match self {
            Self::List(inner) | Self::Optional(inner) | Self::Meta(Some(inner)) => [Some(inner), None],
            Self::Map(pair) => [Some(&pair.0), Some(&pair.1)],
            _ => [None, None],
        }
    }

    /// How many types it is made of, as far as anybody cares.
    pub fn is_too_heavy(&self) -> bool {
        fn weigh(ty: &Type, left: &mut u32) -> bool {
            match left.checked_sub(1) {
                Some(rest) => *left = rest,
                None => return true,
            }
            ty.params().into_iter().flatten().any(|inner| weigh(inner, left))
        }
        weigh(self, &mut { MAX_WEIGHT })
    }

    pub fn is_dyn(&self) -> bool {
        matches!(self, Self::Dyn)
    }

    fn is_dyn_or_error(&self) -> bool {
        matches!(self, Self::Dyn | Self::Error)
    }

    /// Values that are of one size.
    pub fn is_scalar(&self) -> bool {
        match self {
            Self::Bool | Self::Int | Self::Uint | Self::Double | Self::Duration | Self::Timestamp => true,
            Self::Optional(inner) => inner.is_scalar(),
            _ => false,
        }
    }

    /// The same kind of type, whatever it contains.
    fn same_kind(&self, other: &Type) -> bool {
        match (self, other) {
            (Self::Named(a), Self::Named(b)) => a == b,
            (Self::Object(a), Self::Object(b)) => Arc::ptr_eq(a, b) || a.name == b.name,
            (Self::Param(a), Self::Param(b)) => a == b,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }

    pub fn is_exactly(&self, other: &Type) -> bool {
        self.same_kind(other)
            && self.params().into_iter().zip(other.params()).all(|pair| match pair {
                (Some(a), Some(b)) => a.is_exactly(b),
                (None, None) => true,
                _ => false,
            })
    }

    /// As `is_exactly`, but variables of any name are one.
    pub fn is_equivalent(&self, other: &Type) -> bool {
        let same = match (self, other) {
            (Self::Param(_), Self::Param(_)) => true,
            _ => self.same_kind(other),
        };
        same && self.params().into_iter().zip(other.params()).all(|pair| match pair {
            (Some(a), Some(b)) => a.is_equivalent(b),
            (None, None) => true,
            _ => false,
        })
    }

    /// Takes null, too.
    fn is_nullable(&self) -> bool {
        matches!(
            self,
            Self::Null
                | Self::Named(_)
                | Self::Object(_)
                | Self::Optional(_)
                | Self::Duration
                | Self::Timestamp
                | Self::Dyn
        )
    }

    /// As messages tell it.
    pub fn shown(&self) -> String {
        match self {
            Self::Dyn => "dyn".into(),
            Self::Error => "!error!".into(),
            Self::Null => "null".into(),
            Self::Bool => "bool".into(),
            Self::Int => "int".into(),
            Self::Uint => "uint".into(),
            Self::Double => "double".into(),
            Self::String => "string".into(),
            Self::Bytes => "bytes".into(),
            Self::Duration => "duration".into(),
            Self::Timestamp => "timestamp".into(),
            Self::List(item) => format!("list({})", item.shown()),
            Self::Map(pair) => format!("map({}, {})", pair.0.shown(), pair.1.shown()),
            Self::Object(declared) => declared.name.to_string(),
            Self::Named(name) => (*name).to_owned(),
            Self::Optional(inner) => format!("optional_type({})", inner.shown()),
            Self::Meta(Some(inner)) => format!("type({})", inner.shown()),
            Self::Meta(None) => "type".into(),
            Self::Param(number) => format!("_var{number}"),
        }
    }
}

/// What type variables stand for. A failed attempt to unify leaves nothing behind.
#[derive(Default)]
pub(crate) struct Bindings {
    bound: FxHashMap<u32, Type>,
    trail: Vec<(u32, Option<Type>)>,
    next: u32,
}

impl Bindings {
    pub fn fresh(&mut self) -> Type {
        self.next += 1;
        Type::Param(self.next - 1)
    }

    fn find(&self, ty: &Type) -> Option<&Type> {
        match ty {
            Type::Param(number) => self.bound.get(number),
            _ => None,
        }
    }

    fn bind(&mut self, param: &Type, ty: Type) {
        if let Type::Param(number) = param {
            let before = self.bound.insert(*number, ty);
            self.trail.push((*number, before));
        }
    }

    /// Whether each type of the one list can be assigned to its counterpart; variables are bound if so.
    pub fn all_assignable(&mut self, from: &[Type], to: &[Type]) -> bool {
        let mark = self.trail.len();
        let fits = from.len() == to.len() && from.iter().zip(to).all(|(from, to)| self.unify(from, to));
        self.settle(mark, fits)
    }

    pub fn assignable(&mut self, from: &Type, to: &Type) -> bool {
        let mark = self.trail.len();
        let fits = self.unify(from, to);
        self.settle(mark, fits)
    }

    fn settle(&mut self, mark: usize, fits: bool) -> bool {
        if !fits {
            while self.trail.len() > mark {
                match self.trail.pop() {
                    Some((number, Some(before))) => drop(self.bound.insert(number, before)),
                    Some((number, None)) => drop(self.bound.remove(&number)),
                    None => {}
                }
            }
        }
        if mark == 0 {
            self.trail.clear();
        }
        fits
    }

    fn unify(&mut self, a: &Type, b: &Type) -> bool {
        if let Type::Param(_) = b {
            match self.substitutes(a, b) {
                (true, _) => return true,
                (false, true) => return false,
                (false, false) => {}
            }
        }
        if let Type::Param(_) = a {
            return self.substitutes(b, a).0;
        }
        if a.is_dyn_or_error() || b.is_dyn_or_error() {
            return true;
        }
        match (a, b) {
            (Type::Null, other) | (other, Type::Null) => other.is_nullable(),
            (Type::Meta(_), Type::Meta(_)) => true,
            _ => {
                a.same_kind(b)
                    && a.params().into_iter().zip(b.params()).all(|pair| match pair {
                        (Some(a), Some(b)) => self.unify(a, b),
                        _ => true,
                    })
            }
        }
    }

    /// Whether `ty` may stand for the variable `param`, and whether something stood for it before.
    fn substitutes(&mut self, ty: &Type, param: &Type) -> (bool, bool) {
        if ty.is_exactly(param) {
            return (true, true);
        }
        if let Some(known) = self.find(param).cloned() {
            if ty.is_exactly(&known) {
                return (true, true);
            }
            if self.unify(ty, &known) {
                let general = most_general(ty, &known);
                if self.is_apart(param, &general) {
                    self.bind(param, general);
                }
                return (true, true);
            }
            return (false, true);
        }
        if self.is_apart(param, ty) {
            self.bind(param, ty.clone());
            return (true, false);
        }
        (false, false)
    }

    /// A variable must not stand for something that contains it.
    fn is_apart(&self, param: &Type, within: &Type) -> bool {
        if param.is_exactly(within) {
            return false;
        }
        if let Type::Param(_) = within {
            return self.find(within).is_none_or(|known| self.is_apart(param, known));
        }
        within.params().into_iter().flatten().all(|inner| self.is_apart(param, inner))
    }

    /// The type with its variables replaced; by dyn where they are not bound and `finally`.
    pub fn substitute(&self, ty: &Type, finally: bool) -> Type {
        if let Some(known) = self.find(ty) {
            return self.substitute(known, finally);
        }
        match ty {
            Type::Param(_) if finally => Type::Dyn,
            Type::List(item) => Type::list(self.substitute(item, finally)),
            Type::Map(pair) => {
                Type::map(self.substitute(&pair.0, finally), self.substitute(&pair.1, finally))
            }
            Type::Optional(inner) => Type::optional(self.substitute(inner, finally)),
            Type::Meta(Some(inner)) => Type::Meta(Some(Arc::new(self.substitute(inner, finally)))),
            other => other.clone(),
        }
    }
}

/// The more general of two types that unify.
pub(crate) fn most_general(a: &Type, b: &Type) -> Type {
    if equal_or_less_specific(a, b) { a.clone() } else { b.clone() }
}

fn equal_or_less_specific(a: &Type, b: &Type) -> bool {
    match (a, b) {
        (Type::Dyn | Type::Param(_), _) => true,
        (_, Type::Dyn | Type::Param(_)) => false,
        (Type::Meta(_), Type::Meta(_)) => true,
        _ => {
            a.same_kind(b)
                && a.params().into_iter().zip(b.params()).all(|pair| match pair {
                    (Some(a), Some(b)) => equal_or_less_specific(a, b),
                    _ => true,
                })
        }
    }
}

/// A declaration's type with its variables made fresh: the same letter is the same variable.
pub(crate) fn instantiate(ty: &Type, fresh: &FxHashMap<u32, Type>) -> Type {
    match ty {
        Type::Param(letter) => fresh.get(letter).cloned().unwrap_or(Type::Dyn),
        Type::List(item) => Type::list(instantiate(item, fresh)),
        Type::Map(pair) => Type::map(instantiate(&pair.0, fresh), instantiate(&pair.1, fresh)),
        Type::Optional(inner) => Type::optional(instantiate(inner, fresh)),
        Type::Meta(Some(inner)) => Type::Meta(Some(Arc::new(instantiate(inner, fresh)))),
        other => other.clone(),
    }
}
