//! The path to the value under examination, kept on the stack and written out only when there is something to tell.

/// A step of a path and the path before it.
#[derive(Clone, Copy)]
pub(crate) struct Path<'p> {
    before: Option<&'p Path<'p>>,
    step: Step<'p>,
}

#[derive(Clone, Copy)]
enum Step<'p> {
    Root,
    Field(&'p str),
    Key(&'p str),
    Index(usize),
}

impl<'p> Path<'p> {
    pub const ROOT: Path<'static> = Path { before: None, step: Step::Root };

    /// A declared field.
    pub fn field(&'p self, name: &'p str) -> Path<'p> {
        Path { before: Some(self), step: Step::Field(name) }
    }

    /// A key of a map.
    pub fn key(&'p self, name: &'p str) -> Path<'p> {
        Path { before: Some(self), step: Step::Key(name) }
    }

    pub fn index(&'p self, index: usize) -> Path<'p> {
        Path { before: Some(self), step: Step::Index(index) }
    }

    fn steps(&self) -> Vec<Step<'p>> {
        let mut steps = Vec::new();
        let mut at = Some(self);
        while let Some(path) = at {
            steps.push(path.step);
            at = path.before;
        }
        steps.reverse();
        steps
    }

    /// As the OpenAPI validator writes it: `spec.labels.app[0]`.
    pub fn dotted(&self) -> String {
        let mut text = String::new();
        for step in self.steps() {
            match step {
                Step::Root => {}
                Step::Field(name) => {
                    if !text.is_empty() {
                        text.push('.');
                    }
                    text.push_str(name);
                }
                Step::Key(name) => {
                    text.push('.');
                    text.push_str(name);
                }
                Step::Index(index) => text.push_str(&format!("[{index}]")),
            }
        }
        text
    }

    /// As `field.Path` writes it: `spec.labels[app][0]`. Empty at the root.
    pub fn bracketed(&self) -> String {
        let mut text = String::new();
        for step in self.steps() {
            match step {
                Step::Root => {}
                Step::Field(name) => {
                    if !text.is_empty() {
                        text.push('.');
                    }
                    text.push_str(name);
                }
                Step::Key(name) => text.push_str(&format!("[{name}]")),
                Step::Index(index) => text.push_str(&format!("[{index}]")),
            }
        }
        text
    }
}
