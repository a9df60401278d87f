//! Tokens as the parser takes them, and the faults of those it cannot take.
//!
//! Wording of the parser that cel-go is generated with: a token that only needs to go is extraneous, one that only needs
//! another before it is told that as missing, and everything else is mismatched and ends the parse.

use super::lexer::{Spanned, Token};
use super::source::Faults;

/// A fault after which nothing more can be parsed.
pub(crate) struct Stop {
    pub offset: Option<u32>,
    pub message: String,
}

pub(crate) type Parse<T> = Result<T, Stop>;

/// What may follow where an expression may, besides an expression.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Place {
    Plain,
    Arguments,
    List,
    Map,
    Index,
}

impl Place {
    fn others(self) -> &'static [&'static str] {
        match self {
            Self::Plain => &[],
            Self::Arguments => &[")"],
            Self::List => &["]", ",", "?"],
            Self::Map => &["}", ",", "?"],
            Self::Index => &["?"],
        }
    }

    /// All that is expected, in the order of the grammar's tokens.
    fn shown(self) -> String {
        const ORDER: [&str; 10] = ["[", "]", "{", "}", "(", ")", ".", ",", "-", "!"];
        let all = ORDER.iter().chain(&["?"]);
        let symbols = all.filter(|symbol| begins(symbol) || self.others().contains(symbol));
        let mut names: Vec<String> = symbols.map(|symbol| format!("'{symbol}'")).collect();
        let words = [
            "'true'",
            "'false'",
            "'null'",
            "NUM_FLOAT",
            "NUM_INT",
            "NUM_UINT",
            "STRING",
            "BYTES",
            "IDENTIFIER",
        ];
        names.extend(words.map(str::to_owned));
        format!("{{{}}}", names.join(", "))
    }
}

/// Whether an expression may begin with the symbol.
fn begins(symbol: &str) -> bool {
    matches!(symbol, "[" | "{" | "(" | "." | "-" | "!")
}

/// What stands between expressions.
const OPERATORS: [&str; 14] = ["?", "||", "&&", "<", "<=", ">", ">=", "==", "!=", "in", "+", "*", "/", "%"];

pub(crate) struct Tokens<'s> {
    tokens: Vec<Spanned<'s>>,
    at: usize,
    /// What may follow the brackets that are open, the innermost last.
    follow: Vec<&'static [&'static str]>,
}

impl<'s> Tokens<'s> {
    pub fn new(tokens: Vec<Spanned<'s>>) -> Self {
        Self { tokens, at: 0, follow: Vec::new() }
    }

    fn ahead(&self, count: usize) -> &Spanned<'s> {
        &self.tokens[(self.at + count).min(self.tokens.len() - 1)]
    }

    pub fn peek(&self) -> &Token {
        &self.ahead(0).token
    }

    pub fn second(&self) -> &Token {
        &self.ahead(1).token
    }

    pub fn offset(&self) -> u32 {
        self.ahead(0).offset
    }

    pub fn advance(&mut self) -> u32 {
        let offset = self.offset();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        offset
    }

    pub fn is(&self, symbol: &str) -> bool {
        matches!(self.peek(), Token::Symbol(text) if *text == symbol)
    }

    /// Takes the symbol if it is next; where it stood.
    pub fn accept(&mut self, symbol: &str) -> Option<u32> {
        self.is(symbol).then(|| self.advance())
    }

    /// Within brackets, behind which one of `symbols` stands.
    pub fn open(&mut self, symbols: &'static [&'static str]) {
        self.follow.push(symbols);
    }

    pub fn close(&mut self) {
        self.follow.pop();
    }

    fn shown(&self) -> &'s str {
        match self.ahead(0) {
            Spanned { token: Token::End, .. } => "<EOF>",
            spanned => spanned.text,
        }
    }

    fn fault(&self, faults: &mut Faults, kind: &str, expected: &str) {
        faults.add(
            Some(self.offset()),
            format!("Syntax error: {kind} input '{}' expecting {expected}", self.shown()),
        );
    }

    pub fn mismatched<T>(&self, expected: &str) -> Parse<T> {
        let message = format!("Syntax error: mismatched input '{}' expecting {expected}", self.shown());
        Err(Stop { offset: Some(self.offset()), message })
    }

    /// Nothing of the grammar goes on like this behind `before`.
    pub fn no_alternative<T>(&self, before: &str) -> Parse<T> {
        let text = self.ahead(0).text;
        let message = format!("Syntax error: no viable alternative at input '{before}{text}'");
        Err(Stop { offset: Some(self.offset()), message })
    }

    /// The symbol that must come now; it ends what was opened last.
    pub fn expect(&mut self, symbol: &'static str, faults: &mut Faults) -> Parse<u32> {
        let bracket = symbol != ":";
        self.close();
        if let Some(offset) = self.accept(symbol) {
            return Ok(offset);
        }
        let expected = format!("'{symbol}'");
        if matches!(self.second(), Token::Symbol(text) if *text == symbol) {
            self.fault(faults, "extraneous", &expected);
            self.advance();
            return Ok(self.advance());
        }
        let missing = match (self.peek(), self.follow.last()) {
            _ if !bracket => self.begins_expression(self.peek(), Place::Plain),
            (Token::Symbol(next), Some(follow)) => follow.contains(next),
            (token, None) => *token == Token::End,
            _ => false,
        };
        if !missing {
            return self.mismatched(&expected);
        }
        let offset = self.offset();
        faults.add(Some(offset), format!("Syntax error: missing {expected} at '{}'", self.shown()));
        Ok(offset)
    }

    /// A comma or the bracket that closes; says whether it was the comma.
    pub fn separator(&mut self, close: &'static str, faults: &mut Faults) -> Parse<bool> {
        let expected = format!("{{'{close}', ','}}");
        let fits = |token: &Token| matches!(token, Token::Symbol(text) if *text == close || *text == ",");
        if !fits(self.peek()) {
            if !fits(self.second()) {
                return self.mismatched(&expected);
            }
            self.fault(faults, "extraneous", &expected);
            self.advance();
        }
        Ok(self.accept(",").is_some())
    }

    fn begins_expression(&self, token: &Token, place: Place) -> bool {
        match token {
            Token::Symbol(symbol) => begins(symbol) || place.others().contains(symbol),
            Token::End | Token::Quoted => false,
            _ => true,
        }
    }

    /// There is no expression here. If one begins right behind the next token, that token goes (true); if the next token
    /// may come behind an expression, there is none, and the parse goes on (false).
    pub fn no_expression(&mut self, place: Place, faults: &mut Faults) -> Parse<bool> {
        if *self.peek() != Token::End && self.begins_expression(self.second(), place) {
            self.fault(faults, "extraneous", &place.shown());
            self.advance();
            return Ok(true);
        }
        if !self.follows_expression() {
            return self.mismatched(&place.shown());
        }
        self.fault(faults, "mismatched", &place.shown());
        Ok(false)
    }

    fn follows_expression(&self) -> bool {
        let Token::Symbol(symbol) = self.peek() else { return false };
        OPERATORS.contains(symbol) || self.follow.last().is_some_and(|follow| follow.contains(symbol))
    }

    /// Nothing may come any more.
    pub fn end(&self, faults: &mut Faults) -> Parse<()> {
        match (self.peek(), self.second()) {
            (Token::End, _) => Ok(()),
            (_, Token::End) => {
                self.fault(faults, "extraneous", "<EOF>");
                Ok(())
            }
            _ => self.mismatched("<EOF>"),
        }
    }

    /// The name of a message literal that begins with `first`, whose `{` is next then.
    pub fn message_name(&mut self, first: &str) -> Option<String> {
        let mut ahead = 0;
        let mut name = first.to_owned();
        loop {
            match (&self.ahead(ahead).token, &self.ahead(ahead + 1).token) {
                (Token::Symbol("{"), _) => break,
                (Token::Symbol("."), Token::Ident(next)) => {
                    name = format!("{name}.{next}");
                    ahead += 2;
                }
                _ => return None,
            }
        }
        self.at += ahead;
        Some(name)
    }
}
