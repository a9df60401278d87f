//! Parses expressions: recursive descent over the grammar of the Common Expression Language.
//!
//! Depth and size are bounded as in cel-go: 250 levels, 100,000 characters.

use std::sync::Arc;

use super::ast::{Entry, Expr, Field, Kind, Literal, operators};
use super::growth::Growth;
use super::lexer::{Token, tokens};
use super::macros;
use super::source::{Faults, Positions};
use super::stream::{Parse, Place, Stop, Tokens};

const MAX_CHARACTERS: usize = 100_000;
pub(crate) const MAX_DEPTH: usize = 250;

/// Words kept for the language's own use.
pub(super) const RESERVED: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// A parsed expression and where its nodes are.
pub(crate) struct Parsed {
    pub expr: Expr,
    pub positions: Positions,
}

pub(crate) fn parse(source: &str) -> Result<Parsed, Faults> {
    let mut faults = Faults::default();
    let length = source.chars().count();
    if length > MAX_CHARACTERS {
        faults.add(
            None,
            format!("expression code point size exceeds limit: size: {length}, limit {MAX_CHARACTERS}"),
        );
        return Err(faults);
    }
    let tokens = Tokens::new(tokens(source, &mut faults));
    let mut parser = Parser { tokens, place: Place::Plain, depth: 0, growth: Growth::new(faults) };
    let parsed = parser.whole();
    let Growth { positions, mut faults, .. } = parser.growth;
    match parsed {
        Ok(expr) if faults.is_empty() => Ok(Parsed { expr, positions }),
        Ok(_) => Err(faults),
        Err(Stop { offset, message }) => {
            faults.add(offset, message);
            Err(faults)
        }
    }
}

struct Parser<'s> {
    tokens: Tokens<'s>,
    /// Where the next expression stands.
    place: Place,
    depth: usize,
    growth: Growth,
}

/// How far an expression nests, told by its parser.
struct Deep {
    expr: Expr,
    levels: usize,
}

impl Parser<'_> {
    fn expr(&mut self, offset: u32, kind: Kind) -> Expr {
        self.growth.at(offset, kind)
    }

    fn accept(&mut self, symbol: &str) -> Option<u32> {
        self.tokens.accept(symbol)
    }

    fn expect(&mut self, symbol: &'static str) -> Parse<u32> {
        self.tokens.expect(symbol, &mut self.growth.faults)
    }

    /// An expression at a place where something else might be as well.
    fn expression_at(&mut self, place: Place) -> Parse<Deep> {
        self.place = place;
        self.conditional()
    }

    fn deeper(&self, levels: usize) -> Parse<()> {
        if levels + self.depth > MAX_DEPTH {
            // Brackets are counted while tokens are read, everything else afterwards.
            let message = match levels {
                0 => format!("expression recursion limit exceeded: {MAX_DEPTH}"),
                _ => "max recursion depth exceeded".to_owned(),
            };
            return Err(Stop { offset: None, message });
        }
        Ok(())
    }

    fn call(&mut self, offset: u32, function: &str, args: Vec<Expr>) -> Expr {
        self.expr(offset, Kind::Call { function: function.into(), target: None, args })
    }

    // --- grammar

    fn whole(&mut self) -> Parse<Expr> {
        let expr = self.conditional()?.expr;
        self.tokens.end(&mut self.growth.faults)?;
        Ok(expr)
    }

    fn conditional(&mut self) -> Parse<Deep> {
        self.depth += 1;
        self.deeper(0)?;
        let condition = self.logical(Self::and, "||", operators::OR)?;
        let deep = match self.accept("?") {
            None => condition,
            Some(offset) => {
                self.tokens.open(&[":"]);
                let yes = self.logical(Self::and, "||", operators::OR)?;
                self.expect(":")?;
                let no = self.conditional()?;
                let levels = condition.levels.max(yes.levels).max(no.levels) + 1;
                self.deeper(levels)?;
                let args = vec![condition.expr, yes.expr, no.expr];
                Deep { expr: self.call(offset, operators::CONDITIONAL, args), levels }
            }
        };
        self.depth -= 1;
        Ok(deep)
    }

    fn and(&mut self) -> Parse<Deep> {
        self.logical(Self::relation, "&&", operators::AND)
    }

    /// A chain of one logical operator becomes a balanced tree.
    fn logical(&mut self, term: fn(&mut Self) -> Parse<Deep>, symbol: &str, function: &str) -> Parse<Deep> {
        let first = term(self)?;
        let mut levels = first.levels;
        let mut terms = vec![Some(first.expr)];
        let mut offsets = Vec::new();
        while let Some(offset) = self.accept(symbol) {
            let next = term(self)?;
            levels = levels.max(next.levels);
            offsets.push(offset);
            terms.push(Some(next.expr));
        }
        if offsets.is_empty() {
            let expr = terms.pop().flatten();
            return Ok(Deep { expr: expr.unwrap_or_else(|| self.expr(0, Kind::Missing)), levels });
        }
        let extra = terms.len().ilog2() as usize + 1;
        self.deeper(levels + extra)?;
        let expr = self.balanced(&mut terms, &offsets, 0, function);
        Ok(Deep { expr, levels: levels + extra })
    }

    /// `first` is the number of the first operator of this part of the chain.
    fn balanced(
        &mut self,
        terms: &mut [Option<Expr>],
        offsets: &[u32],
        first: usize,
        function: &str,
    ) -> Expr {
        let Some(count) = offsets.len().checked_sub(1) else {
            let term = terms[first].take();
            return term.unwrap_or_else(|| self.expr(0, Kind::Missing));
        };
        let middle = count.div_ceil(2);
        let left = self.balanced(terms, &offsets[..middle], first, function);
        let right = self.balanced(terms, &offsets[middle + 1..], first + middle + 1, function);
        self.call(offsets[middle], function, vec![left, right])
    }

    fn binary(
        &mut self,
        operand: fn(&mut Self) -> Parse<Deep>,
        symbols: &[(&str, &'static str)],
    ) -> Parse<Deep> {
        let mut left = operand(self)?;
        while let Some((offset, function)) =
            symbols.iter().find_map(|(symbol, function)| Some((self.accept(symbol)?, *function)))
        {
            let right = operand(self)?;
            let levels = left.levels.max(right.levels) + 1;
            self.deeper(levels)?;
            left = Deep { expr: self.call(offset, function, vec![left.expr, right.expr]), levels };
        }
        Ok(left)
    }

    fn relation(&mut self) -> Parse<Deep> {
        self.binary(
            Self::sum,
            &[
                ("<", operators::LESS),
                ("<=", operators::LESS_EQUALS),
                (">", operators::GREATER),
                (">=", operators::GREATER_EQUALS),
                ("==", operators::EQUALS),
                ("!=", operators::NOT_EQUALS),
                ("in", operators::IN),
            ],
        )
    }

    fn sum(&mut self) -> Parse<Deep> {
        self.binary(Self::product, &[("+", operators::ADD), ("-", operators::SUBTRACT)])
    }

    fn product(&mut self) -> Parse<Deep> {
        let symbols = [("*", operators::MULTIPLY), ("/", operators::DIVIDE), ("%", operators::MODULO)];
        self.binary(Self::unary, &symbols)
    }

    fn unary(&mut self) -> Parse<Deep> {
        for (symbol, function) in [("!", operators::NOT), ("-", operators::NEGATE)] {
            if !self.tokens.is(symbol) || self.is_negative_number() {
                continue;
            }
            self.place = Place::Plain;
            let offset = self.tokens.advance();
            let mut times = 1;
            while self.accept(symbol).is_some() {
                times += 1;
            }
            if symbol == "-" && !self.begins_member() {
                return self.tokens.no_alternative("-");
            }
            let operand = self.member()?;
            if times % 2 == 0 {
                return Ok(operand);
            }
            let levels = operand.levels + 1;
            self.deeper(levels)?;
            return Ok(Deep { expr: self.call(offset, function, vec![operand.expr]), levels });
        }
        self.member()
    }

    fn is_negative_number(&self) -> bool {
        self.tokens.is("-")
            && matches!(
                self.tokens.second(),
                Token::Literal(Literal::Int(_) | Literal::Double(_)) | Token::MostNegative | Token::TooGreat
            )
    }

    fn begins_member(&self) -> bool {
        match self.tokens.peek() {
            Token::Symbol(symbol) => matches!(*symbol, "[" | "{" | "(" | ".") || self.is_negative_number(),
            Token::End | Token::Quoted => false,
            _ => true,
        }
    }

    fn member(&mut self) -> Parse<Deep> {
        let mut operand = self.primary()?;
        loop {
            let levels = operand.levels + 1;
            let (expr, inner) = if let Some(offset) = self.accept(".") {
                self.selection(offset, operand.expr)?
            } else if let Some(offset) = self.accept("[") {
                let optional = self.accept("?").is_some();
                self.tokens.open(&["]"]);
                let index = self.expression_at(if optional { Place::Plain } else { Place::Index })?;
                self.expect("]")?;
                let function = if optional { operators::OPTIONAL_INDEX } else { operators::INDEX };
                (self.call(offset, function, vec![operand.expr, index.expr]), index.levels + 1)
            } else {
                return Ok(operand);
            };
            let levels = levels.max(inner);
            self.deeper(levels)?;
            operand = Deep { expr, levels };
        }
    }

    /// What follows the dot at `offset`, and how deep its arguments are.
    fn selection(&mut self, offset: u32, operand: Expr) -> Parse<(Expr, usize)> {
        let optional = self.accept("?").is_some();
        let name_offset = self.tokens.offset();
        let name = match self.tokens.peek().clone() {
            Token::Ident(name) => name,
            Token::Quoted => {
                self.growth.faults.add(Some(name_offset), "unsupported syntax: '`'".to_owned());
                "".into()
            }
            _ if optional => return self.tokens.mismatched("{IDENTIFIER, ESC_IDENTIFIER}"),
            Token::Literal(Literal::Bool(_) | Literal::Null) => return self.tokens.mismatched("IDENTIFIER"),
            _ => return self.tokens.no_alternative("."),
        };
        self.tokens.advance();
        if optional {
            let field = self.expr(name_offset, Kind::Literal(Literal::String(name)));
            return Ok((self.call(offset, operators::OPTIONAL_SELECT, vec![operand, field]), 0));
        }
        let Some(open) = self.accept("(") else {
            let select = Kind::Select { operand: Box::new(operand), field: name, test: false };
            return Ok((self.expr(offset, select), 0));
        };
        let (args, levels) = self.arguments()?;
        let id = self.growth.positions.new_id(open);
        Ok((macros::expand(&mut self.growth, id, &name, Some(operand), args), levels + 3))
    }

    /// Expressions up to the closing bracket, and how deep the deepest is.
    fn arguments(&mut self) -> Parse<(Vec<Expr>, usize)> {
        let mut args = Vec::new();
        let mut levels = 0;
        if self.accept(")").is_some() {
            return Ok((args, levels));
        }
        self.tokens.open(&[",", ")"]);
        let mut place = Place::Arguments;
        loop {
            let arg = self.expression_at(place)?;
            place = Place::Plain;
            levels = levels.max(arg.levels + 1);
            args.push(arg.expr);
            if self.accept(",").is_none() {
                self.expect(")")?;
                return Ok((args, levels));
            }
        }
    }

    fn primary(&mut self) -> Parse<Deep> {
        let place = std::mem::replace(&mut self.place, Place::Plain);
        let offset = self.tokens.offset();
        match self.tokens.peek().clone() {
            Token::Literal(literal) => {
                self.tokens.advance();
                Ok(Deep { expr: self.expr(offset, Kind::Literal(literal)), levels: 1 })
            }
            Token::Ident(_) => self.name(offset, false),
            Token::Symbol(".") => {
                self.tokens.advance();
                self.name(offset, true)
            }
            Token::Symbol("-") => {
                self.tokens.advance();
                let literal = match self.tokens.peek() {
                    Token::Literal(Literal::Int(value)) => Literal::Int(-value),
                    Token::Literal(Literal::Double(value)) => Literal::Double(-value),
                    Token::MostNegative => Literal::Int(i64::MIN),
                    Token::TooGreat => self.too_great(offset),
                    _ => return self.tokens.no_alternative("-"),
                };
                self.tokens.advance();
                Ok(Deep { expr: self.expr(offset, Kind::Literal(literal)), levels: 1 })
            }
            Token::MostNegative | Token::TooGreat => {
                let literal = self.too_great(offset);
                self.tokens.advance();
                Ok(Deep { expr: self.expr(offset, Kind::Literal(literal)), levels: 1 })
            }
            Token::Symbol("(") => {
                self.tokens.advance();
                self.tokens.open(&[")"]);
                let inner = self.conditional()?;
                self.expect(")")?;
                Ok(Deep { expr: inner.expr, levels: inner.levels })
            }
            Token::Symbol("[") => self.list(offset),
            Token::Symbol("{") => self.map(offset),
            _ => {
                if self.tokens.no_expression(place, &mut self.growth.faults)? {
                    return self.unary();
                }
                Ok(Deep { expr: self.expr(offset, Kind::Missing), levels: 1 })
            }
        }
    }

    fn too_great(&mut self, offset: u32) -> Literal {
        self.growth.faults.add(Some(offset), "invalid int literal".to_owned());
        Literal::Int(0)
    }

    /// An identifier, a call, or a message literal.
    fn name(&mut self, offset: u32, rooted: bool) -> Parse<Deep> {
        let Token::Ident(name) = self.tokens.peek().clone() else { return self.tokens.no_alternative(".") };
        let name_offset = self.tokens.advance();
        if RESERVED.contains(&&*name) {
            self.growth.faults.add(Some(name_offset), format!("reserved identifier: {name}"));
        }
        let full: Arc<str> = if rooted { format!(".{name}").into() } else { name };
        if let Some(open) = self.accept("(") {
            let (args, levels) = self.arguments()?;
            let id = self.growth.positions.new_id(open);
            let levels = levels + 2;
            self.deeper(levels)?;
            return Ok(Deep { expr: macros::expand(&mut self.growth, id, &full, None, args), levels });
        }
        if let Some(message) = self.tokens.message_name(&full) {
            return self.message(message.into());
        }
        Ok(Deep { expr: self.expr(offset, Kind::Ident(full)), levels: 1 })
    }

    fn message(&mut self, name: Arc<str>) -> Parse<Deep> {
        let offset = self.tokens.advance();
        let mut fields = Vec::new();
        let mut levels = 0;
        while self.accept("}").is_none() {
            let optional = self.accept("?").is_some();
            let Token::Ident(name) = self.tokens.peek() else {
                return self.tokens.mismatched("{'}', ',', '?', IDENTIFIER, ESC_IDENTIFIER}");
            };
            let field = name.to_string().into();
            self.tokens.advance();
            self.tokens.open(&[":"]);
            let colon = self.expect(":")?;
            let id = self.growth.positions.new_id(colon);
            self.tokens.open(&[",", "}"]);
            let value = self.conditional()?;
            levels = levels.max(value.levels);
            fields.push(Field { id, name: field, value: value.expr, optional });
            self.tokens.close();
            self.tokens.separator("}", &mut self.growth.faults)?;
        }
        self.deeper(levels + 1)?;
        Ok(Deep { expr: self.expr(offset, Kind::Struct { name, fields }), levels: levels + 1 })
    }

    fn list(&mut self, offset: u32) -> Parse<Deep> {
        self.tokens.advance();
        let mut elements = Vec::new();
        let mut optional = Vec::new();
        let mut levels = 0;
        self.accept(",");
        let mut place = Place::List;
        while self.accept("]").is_none() {
            if self.accept("?").is_some() {
                optional.push(elements.len());
            }
            self.tokens.open(&[",", "]"]);
            let element = self.expression_at(place)?;
            levels = levels.max(element.levels);
            elements.push(element.expr);
            self.tokens.close();
            place = Place::Plain;
            if self.tokens.separator("]", &mut self.growth.faults)? && self.tokens.is(",") {
                return self.tokens.mismatched("']'");
            }
        }
        self.deeper(levels + 1)?;
        Ok(Deep { expr: self.expr(offset, Kind::List { elements, optional }), levels: levels + 1 })
    }

    fn map(&mut self, offset: u32) -> Parse<Deep> {
        self.tokens.advance();
        let mut entries = Vec::new();
        let mut levels = 0;
        self.accept(",");
        let mut place = Place::Map;
        while self.accept("}").is_none() {
            let optional = self.accept("?").is_some();
            self.tokens.open(&[":"]);
            let key = self.expression_at(place)?;
            self.expect(":")?;
            self.tokens.open(&[",", "}"]);
            let value = self.conditional()?;
            levels = levels.max(key.levels).max(value.levels);
            entries.push(Entry { key: key.expr, value: value.expr, optional });
            self.tokens.close();
            place = Place::Plain;
            self.tokens.separator("}", &mut self.growth.faults)?;
        }
        self.deeper(levels + 1)?;
        Ok(Deep { expr: self.expr(offset, Kind::Map(entries)), levels: levels + 1 })
    }
}
