//! Members that an object of free JSON has twice, as sigs.k8s.io/json tells them.

use super::{Cursor, Keys, Scan, Text};

/// `spec.containers[0].name` of each repeated member, once; none of what is no JSON, which is told elsewhere.
pub(crate) fn repeated_fields(input: &[u8], most: usize) -> Vec<String> {
    let mut search = Search { cursor: Cursor::new(input), path: String::new(), found: Vec::new(), most };
    search.cursor.skip_space();
    // What is wrong with it is told by who reads it.
    let _ = search.value();
    search.found
}

struct Search<'a> {
    cursor: Cursor<'a>,
    path: String,
    found: Vec<String>,
    most: usize,
}

impl<'a> Search<'a> {
    fn value(&mut self) -> Scan<()> {
        let opening = self.cursor.peek();
        let closing = match opening {
            Some(b'{') => b'}',
            Some(b'[') => b']',
            _ => return self.cursor.any_value(),
        };
        self.cursor.enter()?;
        self.cursor.advance();
        self.cursor.skip_space();
        let mut keys = Keys::default();
        let own = self.path.len();
        for index in 0.. {
            if index == 0 && self.cursor.peek() == Some(closing) {
                break;
            }
            if closing == b'}' {
                let key = self.cursor.string()?;
                self.member(&mut keys, key);
                self.cursor.skip_space();
                self.cursor.expect(b':', "after object key")?;
                self.cursor.skip_space();
            } else {
                self.path.push_str(&format!("[{index}]"));
            }
            self.value()?;
            self.path.truncate(own);
            self.cursor.skip_space();
            match self.cursor.peek() {
                Some(b',') => self.cursor.advance(),
                _ => break,
            }
            self.cursor.skip_space();
        }
        if self.cursor.peek() != Some(closing) {
            return Err(self.cursor.unexpected("after array element"));
        }
        self.cursor.advance();
        self.cursor.leave();
        Ok(())
    }

    fn member(&mut self, keys: &mut Keys<'a>, key: Text<'a>) {
        if !self.path.is_empty() {
            self.path.push('.');
        }
        self.path.push_str(&key.to_str());
        if keys.repeats(key) && self.found.len() < self.most && !self.found.contains(&self.path) {
            self.found.push(self.path.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::repeated_fields;

    #[test]
    fn repeated_members_are_told_with_their_path_and_once() {
        let found = |text: &str| repeated_fields(text.as_bytes(), 100);
        assert_eq!(found(r#"{"a":1,"b":[{"c":1, "c" : 2,"c":3}],"a":{}}"#), ["b[0].c", "a"]);
        assert_eq!(found(r#"[{"op":"x","op":"y"}]"#), ["[0].op"]);
        assert!(found(r#"{"a":{"a":{"a":[]}}}"#).is_empty());
        assert!(found("{").is_empty());
    }
}
