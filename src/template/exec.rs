//! Running a template: the walk over its tree, fields and variables. What the
//! functions do is in [`super::funcs`].

use std::cell::RefCell;
use std::rc::Rc;

use serde_json::{Map, Value as Json};

use super::funcs::{self, Call};
use super::parse::{Branch, Command, Node, Operand, Pipe, Trees, What};
use super::value::{Kind, Of, Val};
use super::{ExecError, ParseError};

/// How deep templates may call one another.
const MAX_CALLS: usize = 100;
/// How many nodes may be run, and how much may be printed: a template that loops without end ends.
const MAX_STEPS: usize = 1_000_000;
const MAX_OUTPUT: usize = 64 << 20;

/// Where `.Label "key"` looks.
#[derive(Debug, Clone)]
pub(super) enum Labels {
    /// The labels of a row.
    Of(Map<String, Json>),
    /// It is the header that is made.
    Header,
}

/// Why a list of nodes was left.
#[derive(Debug, PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

struct Runner<'a> {
    source: &'a str,
    trees: &'a Trees,
    labels: Option<Labels>,
    header: bool,
    /// Over plain JSON, where every name has to be there.
    raw: bool,
    variables: Vec<(String, Val)>,
    out: String,
    steps: usize,
    calls: usize,
    name: String,
    /// The node that errors point at.
    at: RefCell<(usize, String)>,
}

type Run<T> = Result<T, ExecError>;

/// Runs the main template over `data`.
pub(super) fn run(source: &str, trees: &Trees, data: Val, labels: Option<Labels>, header: bool) -> Run<String> {
    let raw = matches!(&data, Val::Object(object) if object.kind == Kind::Raw);
    let mut runner = Runner {
        source,
        raw,
        trees,
        labels,
        header,
        variables: vec![("$".into(), data.clone())],
        out: String::new(),
        steps: 0,
        calls: 0,
        name: String::new(),
        at: RefCell::default(),
    };
    if let Some(nodes) = trees.get("") {
        runner.list(&data, nodes)?;
    }
    Ok(runner.out)
}

impl Runner<'_> {
    fn here(&self, at: usize, node: impl std::fmt::Display) {
        *self.at.borrow_mut() = (at, node.to_string());
    }

    fn error<T>(&self, message: impl Into<String>) -> Run<T> {
        let (at, node) = self.at.borrow().clone();
        let line = ParseError::at(self.source, at, "").line;
        let before = self.source.get(..at).unwrap_or_default();
        let column = at - before.rfind('\n').map_or(0, |newline| newline + 1);
        Err(ExecError { line, column, template: self.name.clone(), node, message: message.into() })
    }

    fn print(&mut self, text: &str) -> Run<()> {
        if self.out.len() + text.len() > MAX_OUTPUT {
            return self.error("the output is too large");
        }
        self.out.push_str(text);
        Ok(())
    }

    fn step(&mut self) -> Run<()> {
        self.steps += 1;
        if self.steps > MAX_STEPS { self.error("the template takes too long") } else { Ok(()) }
    }

    fn list(&mut self, dot: &Val, nodes: &[Node]) -> Run<Flow> {
        for node in nodes {
            self.step()?;
            match self.node(dot, node)? {
                Flow::On => {}
                left => return Ok(left),
            }
        }
        Ok(Flow::On)
    }

    fn node(&mut self, dot: &Val, node: &Node) -> Run<Flow> {
        match node {
            Node::Text(text) => self.print(text)?,
            Node::Action(pipe) => {
                let value = self.pipe(dot, pipe)?;
                if pipe.variables.is_empty() {
                    self.print(&value.to_string())?;
                }
            }
            Node::If(branch) | Node::With(branch) => {
                let scope = self.variables.len();
                let value = self.pipe(dot, &branch.pipe)?;
                let inner = if matches!(node, Node::With(_)) { &value } else { dot };
                let flow = match value.truth() {
                    true => self.list(inner, &branch.then)?,
                    false => self.list(dot, &branch.otherwise)?,
                };
                self.variables.truncate(scope);
                return Ok(flow);
            }
            Node::Range(branch) => return self.range(dot, branch),
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
            Node::Call { at, name, pipe } => self.call_template(dot, *at, name, pipe.as_ref())?,
        }
        Ok(Flow::On)
    }

    fn call_template(&mut self, dot: &Val, at: usize, name: &str, pipe: Option<&Pipe>) -> Run<()> {
        let text = match pipe {
            Some(pipe) => format!("{{{{template {name:?} {pipe}}}}}"),
            None => format!("{{{{template {name:?}}}}}"),
        };
        self.here(at, &text);
        let trees = self.trees;
        let Some(nodes) = trees.get(name).filter(|_| !name.is_empty()) else {
            return self.error(format!("template {name:?} not defined"));
        };
        if self.calls == MAX_CALLS {
            return self.error(format!("exceeded maximum template depth ({MAX_CALLS})"));
        }
        let data = match pipe {
            Some(pipe) => self.pipe(dot, pipe)?,
            None => Val::Missing,
        };
        self.calls += 1;
        let variables = std::mem::replace(&mut self.variables, vec![("$".into(), data.clone())]);
        let outer = std::mem::replace(&mut self.name, name.to_owned());
        self.list(&data, nodes)?;
        (self.variables, self.name) = (variables, outer);
        self.calls -= 1;
        Ok(())
    }

    fn range(&mut self, dot: &Val, branch: &Branch) -> Run<Flow> {
        let scope = self.variables.len();
        // Its variables are given their values anew for each element.
        let silent = Pipe { variables: Vec::new(), ..branch.pipe.clone() };
        let value = self.pipe(dot, &silent)?;
        let items: Box<dyn Iterator<Item = (Val, Val)>> = match &value {
            Val::List(all, _) => Box::new(all.iter().cloned().enumerate().map(|(index, item)| (count(index), item))),
            Val::Object(object) if !matches!(object.kind, Kind::Struct(_)) => {
                Box::new(object.sorted().into_iter().map(|(key, item)| (Val::Text(key.into()), item)))
            }
            Val::Int(number) => Box::new((0..*number).map(|number| (Val::Int(number), Val::Int(number)))),
            Val::Missing => Box::new(std::iter::empty()),
            other => return self.error(format!("range can't iterate over {other}")),
        };
        let mut items = items.peekable();
        if items.peek().is_none() {
            let flow = self.list(dot, &branch.otherwise)?;
            self.variables.truncate(scope);
            return Ok(flow);
        }
        for (key, item) in items {
            self.step()?;
            let pipe = &branch.pipe;
            let values = match pipe.variables.as_slice() {
                [one] => vec![(one, item.clone())],
                [first, second] => vec![(first, key), (second, item.clone())],
                _ => Vec::new(),
            };
            for (name, value) in values {
                self.set(name, value, pipe.assigns);
            }
            let flow = self.list(&item, &branch.then)?;
            self.variables.truncate(scope);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn set(&mut self, name: &str, value: Val, assigns: bool) {
        match self.variables.iter_mut().rev().find(|(known, _)| assigns && known == name) {
            Some((_, old)) => *old = value,
            None => self.variables.push((name.to_owned(), value)),
        }
    }

    fn pipe(&mut self, dot: &Val, pipe: &Pipe) -> Run<Val> {
        self.here(pipe.at, pipe);
        let mut value = None;
        for command in &pipe.commands {
            value = Some(self.command(dot, command, value)?);
        }
        let value = value.unwrap_or(Val::Missing);
        for name in &pipe.variables {
            self.set(name, value.clone(), pipe.assigns);
        }
        Ok(value)
    }

    fn command(&mut self, dot: &Val, command: &Command, last: Option<Val>) -> Run<Val> {
        let Some((first, arguments)) = command.operands.split_first() else { return Ok(Val::Missing) };
        let has_arguments = !arguments.is_empty() || last.is_some();
        match &first.kind {
            What::Function(name) => self.function(dot, name, first, command, arguments, last),
            What::Field(path) => {
                self.here(first.at, first);
                self.path(dot.clone(), dot, path, Some((first, arguments, last)))
            }
            What::Variable(name, path) if !path.is_empty() => {
                self.here(first.at, first);
                let value = self.variable(name);
                self.path(value, dot, path, Some((first, arguments, last)))
            }
            What::Group(pipe, path) => {
                self.here(first.at, first);
                if path.is_empty() && has_arguments {
                    return self.error(format!("can't give argument to non-function {first}"));
                }
                let value = self.pipe(dot, pipe)?;
                self.path(value, dot, path, Some((first, arguments, last)))
            }
            _ => {
                self.here(first.at, first);
                if has_arguments {
                    return self.error(format!("can't give argument to non-function {first}"));
                }
                match &first.kind {
                    What::Nil => self.error("nil is not a command"),
                    _ => self.operand(dot, first),
                }
            }
        }
    }

    /// An operand as a value, where any type is welcome.
    fn operand(&mut self, dot: &Val, operand: &Operand) -> Run<Val> {
        self.here(operand.at, operand);
        Ok(match &operand.kind {
            What::Dot => dot.clone(),
            What::Nil => Val::Missing,
            What::Bool(value) => Val::Bool(*value),
            What::Int(value) => Val::Int(*value),
            What::Float(value) => Val::Float(*value),
            What::Number(_, value) => match **value {
                What::Float(value) => Val::Float(value),
                What::Int(value) => Val::Int(value),
                _ => Val::Missing,
            },
            What::Text(_, text) => Val::text(text),
            What::Field(path) => self.path(dot.clone(), dot, path, None)?,
            What::Variable(name, path) => {
                let value = self.variable(name);
                self.path(value, dot, path, None)?
            }
            What::Group(pipe, path) => {
                let value = self.pipe(dot, pipe)?;
                self.path(value, dot, path, None)?
            }
            What::Function(name) => {
                let command = Command { at: operand.at, operands: vec![operand.clone()] };
                self.function(dot, name, operand, &command, &[], None)?
            }
        })
    }

    fn variable(&self, name: &str) -> Val {
        let found = self.variables.iter().rev().find(|(known, _)| known == name);
        found.map_or(Val::Missing, |(_, value)| value.clone())
    }

    /// Fields of fields; only the last may be a method with arguments.
    fn path(
        &mut self,
        mut value: Val,
        dot: &Val,
        path: &[String],
        call: Option<(&Operand, &[Operand], Option<Val>)>,
    ) -> Run<Val> {
        let Some((last, before)) = path.split_last() else { return Ok(value) };
        for name in before {
            value = self.field(&value, name)?;
        }
        let arguments = call.as_ref().map_or(0, |(_, arguments, last)| arguments.len() + usize::from(last.is_some()));
        let is_row = before.is_empty() && matches!(&value, Val::Object(_));
        if let (Some(labels), "Label", true) = (self.labels.clone(), last.as_str(), is_row) {
            return self.label(&labels, dot, arguments, call);
        }
        if arguments > 0 {
            return self.error(format!("{last} is not a method but has arguments"));
        }
        self.field(&value, last)
    }

    fn label(
        &mut self,
        labels: &Labels,
        dot: &Val,
        count: usize,
        call: Option<(&Operand, &[Operand], Option<Val>)>,
    ) -> Run<Val> {
        let (Some((_, arguments, last)), 1) = (call, count) else {
            return self.error(format!("wrong number of args for Label: want 1 got {count}"));
        };
        let key = match (arguments.first(), last) {
            (Some(operand), _) => self.argument(dot, operand, Call::Text)?,
            (None, last) => last.unwrap_or(Val::Missing),
        };
        let Val::Text(key) = key else {
            return self.error(format!("wrong type for value; expected string; got {}", key.type_name()));
        };
        Ok(match labels {
            Labels::Of(labels) => Val::text(labels.get(&*key).and_then(Json::as_str).unwrap_or_default()),
            Labels::Header => Val::text(&key.rsplit('.').next().unwrap_or_default().replace(['-', '_'], " ")),
        })
    }

    fn field(&self, value: &Val, name: &str) -> Run<Val> {
        match value {
            Val::Object(object) => match (object.get(name), object.kind) {
                (Some(value), _) => Ok(value.clone()),
                (None, Kind::Struct("struct")) if object.omitted(name).is_some() => {
                    Ok(object.omitted(name).unwrap_or(Val::Nil))
                }
                (None, Kind::Struct(type_name)) => {
                    self.error(format!("can't evaluate field {name} in type {type_name}"))
                }
                (None, Kind::Raw) => self.error(format!("map has no entry for key {name:?}")),
                (None, Kind::Map | Kind::Ports | Kind::Texts) => Ok(Val::Missing),
            },
            Val::Missing if self.raw => self.error(format!("nil data; no entry for key {name:?}")),
            Val::Missing => Ok(Val::Missing),
            Val::Nil => self.error(format!("nil pointer evaluating interface {{}}.{name}")),
            // What inspect tells is the second attempt, over plain JSON.
            _ if self.labels.is_none() => self.error(format!("can't evaluate field {name} in type interface {{}}")),
            other => self.error(format!("can't evaluate field {name} in type {}", other.type_name())),
        }
    }

    fn argument(&mut self, dot: &Val, operand: &Operand, wanted: Call) -> Run<Val> {
        self.here(operand.at, operand);
        let literal = matches!(operand.kind, What::Bool(_) | What::Number(..) | What::Text(..) | What::Nil);
        let value = self.operand(dot, operand)?;
        if literal && !wanted.takes(&value) {
            return match wanted {
                Call::Texts => self.error(format!("can't handle {operand} for arg of type []string")),
                _ => self.error(format!("expected {}; found {operand}", wanted.noun())),
            };
        }
        self.checked(value, wanted)
    }

    fn checked(&self, value: Val, wanted: Call) -> Run<Val> {
        match (&value, wanted) {
            (Val::Missing | Val::Nil, Call::Texts) => Ok(Val::List(Rc::default(), Of::Texts)),
            (Val::Missing | Val::Nil, Call::Text | Call::Whole) => {
                self.error(format!("invalid value; expected {}", wanted.type_name()))
            }
            (value, wanted) if !wanted.takes(value) => {
                self.error(format!("wrong type for value; expected {}; got {}", wanted.type_name(), value.type_name()))
            }
            _ => Ok(value),
        }
    }

    fn function(
        &mut self,
        dot: &Val,
        name: &str,
        operand: &Operand,
        command: &Command,
        arguments: &[Operand],
        last: Option<Val>,
    ) -> Run<Val> {
        self.here(operand.at, operand);
        let count = arguments.len() + usize::from(last.is_some());
        let Some(signature) = funcs::signature(name, self.header) else {
            return self.error(format!("{name:?} is not a defined function"));
        };
        if let Err(text) = signature.accepts(name, count) {
            return self.error(text);
        }
        // `and` and `or` look at no more than they need.
        if matches!(name, "and" | "or") {
            let mut value = Val::Missing;
            for argument in arguments {
                value = self.operand(dot, argument)?;
                if value.truth() == (name == "or") {
                    return Ok(value);
                }
            }
            return Ok(last.unwrap_or(value));
        }
        let mut values = Vec::with_capacity(count);
        for (index, argument) in arguments.iter().enumerate() {
            values.push(self.argument(dot, argument, signature.wants(index))?);
        }
        if let Some(last) = last {
            values.push(self.checked(last, signature.wants(count - 1))?);
        }
        let written = arguments.first().map(ToString::to_string).unwrap_or_default();
        match funcs::call(name, &values, self.header, &written) {
            Ok(value) => Ok(value),
            Err(text) => {
                self.here(command.at, command);
                self.error(format!("error calling {name}: {text}"))
            }
        }
    }
}

fn count(index: usize) -> Val {
    Val::Int(i64::try_from(index).unwrap_or(i64::MAX))
}
