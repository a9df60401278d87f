//! Patterns are translated where the two syntaxes differ: `\d`, `\w`, `\s` and `\b` are ASCII in RE2, a lone `{` is a
//! literal, `[` within a class is one, too, `\Q...\E` quotes, `\<` is a `<`.

use super::{MAX_REPEAT, MOST_PATTERN_BYTES, problem};

pub(super) struct Translator<'p> {
    pattern: &'p str,
    at: usize,
    out: String,
}

impl<'p> Translator<'p> {
    pub fn new(pattern: &'p str) -> Self {
        Self { pattern, at: 0, out: String::with_capacity(pattern.len() + 16) }
    }

    fn rest(&self) -> &'p str {
        &self.pattern[self.at..]
    }

    pub fn run(mut self) -> Result<String, String> {
        if self.pattern.len() > MOST_PATTERN_BYTES {
            return Err(problem("expression too large", ""));
        }
        // Where the last repetition ended: another one right after it is an error in RE2.
        let mut repeated: Option<usize> = None;
        while let Some(c) = self.rest().chars().next() {
            let start = self.at;
            match c {
                '\\' => self.escape(false)?,
                '[' => self.class()?,
                '(' => self.group()?,
                '*' | '+' | '?' => {
                    self.copy(1);
                    self.lazy();
                    self.refuse_double(repeated, start)?;
                    repeated = Some(self.at);
                }
                '{' => {
                    if let Some(length) = self.repetition()? {
                        self.copy(length);
                        self.lazy();
                        self.refuse_double(repeated, start)?;
                        repeated = Some(self.at);
                    } else {
                        self.at += 1;
                        self.out.push_str("\\{");
                    }
                }
                '}' => {
                    self.at += 1;
                    self.out.push_str("\\}");
                }
                c => self.copy(c.len_utf8()),
            }
        }
        Ok(self.out)
    }

    fn copy(&mut self, bytes: usize) {
        self.out.push_str(&self.pattern[self.at..self.at + bytes]);
        self.at += bytes;
    }

    fn lazy(&mut self) {
        if self.rest().starts_with('?') {
            self.copy(1);
        }
    }

    fn refuse_double(&self, repeated: Option<usize>, start: usize) -> Result<(), String> {
        if repeated == Some(start) {
            let before = self.pattern[..start].rfind(['*', '+', '?', '{']).unwrap_or(start);
            let before = self.pattern[..before + 1].len() - 1;
            return Err(problem("invalid nested repetition operator", &self.pattern[before..self.at]));
        }
        Ok(())
    }

    /// The length of `{n}`, `{n,}` or `{n,m}` here; None where the brace is a literal.
    fn repetition(&self) -> Result<Option<usize>, String> {
        let rest = self.rest();
        let Some(end) = rest.find('}') else { return Ok(None) };
        let inside = &rest[1..end];
        let (low, high) = match inside.split_once(',') {
            None => (inside, Some(inside)),
            Some((low, "")) => (low, None),
            Some((low, high)) => (low, Some(high)),
        };
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(low) || high.is_some_and(|high| !digits(high)) {
            return Ok(None);
        }
        let number = |text: &str| text.parse::<u32>().unwrap_or(u32::MAX);
        let (low, high) = (number(low), high.map(number));
        if low > MAX_REPEAT || high.is_some_and(|high| high > MAX_REPEAT || high < low) {
            return Err(problem("invalid repeat count", &rest[..=end]));
        }
        Ok(Some(end + 1))
    }

    fn group(&mut self) -> Result<(), String> {
        let rest = self.rest();
        if !rest.starts_with("(?") {
            self.copy(1);
            return Ok(());
        }
        if rest.starts_with("(?P<") || rest.starts_with("(?<") {
            if rest.starts_with("(?<=") || rest.starts_with("(?<!") {
                return Err(problem("invalid or unsupported Perl syntax", &rest[..4]));
            }
            return self.named_group(if rest.starts_with("(?P") { 4 } else { 3 });
        }
        let flags =
            rest[2..].bytes().take_while(|byte| matches!(byte, b'i' | b'm' | b's' | b'U' | b'-')).count();
        match rest.as_bytes().get(2 + flags) {
            Some(b':' | b')') if rest.as_bytes()[2..][..flags + 1] != *b")" => self.copy(3 + flags),
            _ => {
                let shown: String = rest.chars().take(3 + flags).collect();
                return Err(problem("invalid or unsupported Perl syntax", &shown));
            }
        }
        Ok(())
    }

    /// Nobody asks for the names of groups, which Go, unlike the regex crate, allows to be the same. The name begins
    /// behind `prefix` bytes.
    fn named_group(&mut self, prefix: usize) -> Result<(), String> {
        let rest = self.rest();
        let Some(end) = rest.find('>') else { return Err(problem("invalid named capture", rest)) };
        let name = &rest[prefix..end];
        if name.is_empty() || !name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric()) {
            return Err(problem("invalid named capture", &rest[..=end]));
        }
        self.out.push('(');
        self.at += end + 1;
        Ok(())
    }

    /// One escape, outside or within a class.
    fn escape(&mut self, in_class: bool) -> Result<(), String> {
        let rest = self.rest();
        let mut characters = rest.chars();
        characters.next();
        let Some(c) = characters.next() else {
            return Err("error parsing regexp: trailing backslash at end of expression: ``".into());
        };
        let brackets = |inside: &str| if in_class { inside.to_owned() } else { format!("[{inside}]") };
        let replaced = match c {
            'd' => brackets("0-9"),
            'w' => brackets("0-9A-Za-z_"),
            's' => brackets("\\t\\n\\x0C\\r\\x20"),
            'D' => "[^0-9]".into(),
            'W' => "[^0-9A-Za-z_]".into(),
            'S' => "[^\\t\\n\\x0C\\r\\x20]".into(),
            'b' if !in_class => "(?-u:\\b)".into(),
            'B' if !in_class => "\\B".into(),
            'A' if !in_class => "\\A".into(),
            'z' if !in_class => "\\z".into(),
            'Q' => return self.quoted(in_class),
            'E' => String::new(),
            'a' => "\\x07".into(),
            'f' | 'n' | 'r' | 't' | 'v' => format!("\\{c}"),
            'p' | 'P' => return self.unicode_class(),
            'x' => return self.hexadecimal(),
            '0'..='7' => return self.octal(),
            c if c.is_ascii_alphanumeric() => {
                return Err(problem("invalid escape sequence", &format!("\\{c}")));
            }
            c if !c.is_ascii() => return Err(problem("invalid escape sequence", &format!("\\{c}"))),
            c => literal(c),
        };
        self.out.push_str(&replaced);
        self.at += 1 + c.len_utf8();
        Ok(())
    }

    fn quoted(&mut self, in_class: bool) -> Result<(), String> {
        if in_class {
            return Err(problem("invalid escape sequence", "\\Q"));
        }
        let rest = &self.rest()[2..];
        let (quoted, length) = match rest.find("\\E") {
            Some(end) => (&rest[..end], end + 2),
            None => (rest, rest.len()),
        };
        for c in quoted.chars() {
            self.out.push_str(&literal(c));
        }
        self.at += 2 + length;
        Ok(())
    }

    fn unicode_class(&mut self) -> Result<(), String> {
        let rest = self.rest();
        let length = match rest.as_bytes().get(2) {
            Some(b'{') => rest.find('}').map(|end| end + 1),
            Some(_) => rest[2..].chars().next().map(|c| 2 + c.len_utf8()),
            None => None,
        };
        let Some(length) = length else {
            return Err(problem("invalid character class range", rest));
        };
        let token = &rest[..length];
        if let Some(name) = token[2..].strip_prefix("{^") {
            let flipped = if token.starts_with("\\p") { 'P' } else { 'p' };
            self.out.push_str(&format!("\\{flipped}{{{name}"));
        } else {
            self.out.push_str(token);
        }
        self.at += length;
        if regex_syntax::parse(token).is_err() && !token.contains('^') {
            return Err(problem("invalid character class range", token));
        }
        Ok(())
    }

    fn hexadecimal(&mut self) -> Result<(), String> {
        let rest = &self.rest()[2..];
        let (digits, length) = match rest.strip_prefix('{') {
            Some(inside) => {
                let end = inside.find('}').unwrap_or(inside.len());
                (&inside[..end], end + 2)
            }
            None => (rest.get(..2).unwrap_or_default(), 2),
        };
        let code = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32);
        let whole = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let (Some(c), true) = (code, whole) else {
            let shown: String = self.rest().chars().take(4).collect();
            return Err(problem("invalid escape sequence", &shown));
        };
        self.out.push_str(&literal(c));
        self.at += 2 + length;
        Ok(())
    }

    fn octal(&mut self) -> Result<(), String> {
        let rest = &self.rest()[1..];
        let digits = rest.bytes().take(3).take_while(|byte| matches!(byte, b'0'..=b'7')).count();
        // A single digit other than zero would be a back-reference.
        if digits < 2 && !rest.starts_with('0') {
            return Err(problem("invalid escape sequence", &self.rest()[..2]));
        }
        let code = rest[..digits].bytes().fold(0, |sum, digit| sum * 8 + u32::from(digit - b'0'));
        self.out.push_str(&literal(char::from_u32(code).unwrap_or('\0')));
        self.at += 1 + digits;
        Ok(())
    }

    fn class(&mut self) -> Result<(), String> {
        let begin = self.at;
        self.copy(1);
        if self.rest().starts_with('^') {
            self.copy(1);
        }
        let mut first = true;
        loop {
            let rest = self.rest();
            let Some(c) = rest.chars().next() else {
                return Err(problem("missing closing ]", &self.pattern[begin..]));
            };
            match c {
                ']' if !first => {
                    self.copy(1);
                    return Ok(());
                }
                '[' if rest.starts_with("[:") && rest.contains(":]") => {
                    let end = rest.find(":]").unwrap_or_default() + 2;
                    let token = &rest[..end];
                    if regex_syntax::parse(&format!("[{token}]")).is_err() {
                        return Err(problem("invalid character class range", token));
                    }
                    self.copy(end);
                }
                '\\' => self.escape(true)?,
                '-' => self.copy(1),
                c => {
                    self.out.push_str(&literal(c));
                    self.at += c.len_utf8();
                }
            }
            first = false;
            // What looks like an operator on classes is none in RE2.
            if self.out.ends_with("--") {
                self.out.truncate(self.out.len() - 1);
                self.out.push_str("\\-");
            }
        }
    }
}

/// A character that stands for itself, anywhere.
fn literal(c: char) -> String {
    if c.is_ascii_alphanumeric()
        || !c.is_ascii()
        || matches!(c, '_' | ' ' | '/' | '%' | '@' | ',' | ';' | ':' | '=' | '!' | '\'' | '"' | '`')
    {
        return c.to_string();
    }
    if c.is_ascii_punctuation() && !matches!(c, '<' | '>') {
        return format!("\\{c}");
    }
    format!("\\x{{{:x}}}", c as u32)
}
