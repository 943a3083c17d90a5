//! `extends`: a service on top of another one, of the same file or of another.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::canonical::canonicalise;
use super::files::{Failed, Files, Scope};
use super::load::display_name;
use super::merge::{KeyPath, delete, empty, merge, take_edits, unify};
use super::node::{Map, Node};
use super::suggest::nearest;

/// A file that services extend from.
#[derive(Debug)]
pub(crate) struct Base {
    tree: Node,
    edits: Vec<KeyPath>,
}

/// The services that a name refers to.
struct Set<'a> {
    services: &'a Map,
    edits: &'a [KeyPath],
    file: &'a Path,
}

/// Services that extend each other at most.
const MAX_CHAIN: usize = 100;

/// Who extends whom, from the outermost service on.
type Chain = Vec<(PathBuf, String)>;

impl Files<'_> {
    /// Replaces every service that extends another by the merged service.
    pub(crate) fn extend(
        &mut self,
        document: &mut Node,
        file: &Path,
        scope: &Scope<'_>,
        edits: &[KeyPath],
    ) -> Result<(), Failed> {
        let Some(services) = document.get("services").and_then(Node::as_map).cloned() else { return Ok(()) };
        let set = Set { services: &services, edits, file };
        for (name, entry) in services.iter().filter(|(_, entry)| entry.node.get("extends").is_some()) {
            let merged = self.extended(name, &entry.node, &set, scope, &mut Chain::new())?;
            let own = document.as_map_mut().and_then(|map| map.get_mut("services")?.node.as_map_mut()?.get_mut(name));
            if let Some(own) = own {
                own.node = merged;
            }
        }
        Ok(())
    }

    fn extended(
        &mut self,
        name: &str,
        service: &Node,
        set: &Set<'_>,
        scope: &Scope<'_>,
        chain: &mut Chain,
    ) -> Result<Node, Failed> {
        let Some(extends) = service.get("extends") else { return Ok(service.clone()) };
        let shown = display_name(set.file, self.current_dir);
        let Some(reference) = extends.get("service").and_then(Node::as_text) else {
            self.problems.error(extends.span, format!("services.{name}.extends missing property 'service'"));
            return Err(Failed);
        };
        let link = (set.file.to_path_buf(), name.to_owned());
        if chain.len() >= MAX_CHAIN {
            let message = format!("services.{name}.extends: more than {MAX_CHAIN} services extend each other");
            self.problems.error(extends.span, message);
            return Err(Failed);
        }
        if chain.contains(&link) {
            let message = circular(chain, &link, self.current_dir);
            self.problems.error(extends.span, message);
            return Err(Failed);
        }
        chain.push(link);
        let base = match extends.get("file") {
            None => {
                let Some(entry) = set.services.get(reference) else {
                    let message =
                        format!("cannot extend service \"{name}\" in {shown}: service \"{reference}\" not found");
                    let near = nearest(reference, set.services.keys().map(String::as_str).filter(|key| *key != name));
                    self.problems.error(extends.span, message).help =
                        near.map(|name| format!("did you mean `{name}`?"));
                    return Err(Failed);
                };
                self.extended(reference, &entry.node, set, scope, chain)?
            }
            Some(file) => self.extended_from_file(name, reference, file, set, scope, chain)?,
        };
        chain.pop();
        Ok(self.on_top(name, service, base, set.edits))
    }

    /// The service merged onto its base, which loses what the service's file resets.
    fn on_top(&mut self, name: &str, service: &Node, base: Node, edits: &[KeyPath]) -> Node {
        let mut holder = Node::map(base.span, [(name, base)]);
        let below = |edit: &KeyPath| (edit.first().is_some_and(|key| key == "services")).then(|| edit[1..].to_vec());
        delete(&mut holder, &edits.iter().filter_map(below).collect::<Vec<_>>());
        let base = holder.as_map_mut().and_then(|map| map.shift_remove(name));
        let mut merged = match base {
            Some(entry) if entry.node.as_map().is_some() => entry.node,
            _ => empty(),
        };
        let mut own = service.clone();
        own.as_map_mut().map(|map| map.shift_remove("extends"));
        merge(&mut merged, own, &["services", name], self.problems);
        merged.span = service.span;
        merged
    }

    fn extended_from_file(
        &mut self,
        name: &str,
        reference: &str,
        file: &Node,
        set: &Set<'_>,
        scope: &Scope<'_>,
        chain: &mut Chain,
    ) -> Result<Node, Failed> {
        let Some(text) = file.as_text() else {
            self.problems.error(file.span, format!("services.{name}.extends.file must be a string"));
            return Err(Failed);
        };
        let path = self.place(text, scope.dir, file)?;
        let base = self.base(&path, file, scope)?;
        let service = base.tree.get("services").and_then(|services| services.get(reference));
        let (Some(service), Some(services)) = (service, base.tree.get("services").and_then(Node::as_map)) else {
            let (here, there) = (display_name(set.file, self.current_dir), display_name(&path, self.current_dir));
            let message =
                format!("cannot extend service \"{name}\" in {here}: service \"{reference}\" not found in {there}");
            self.problems.error(file.span, message);
            return Err(Failed);
        };
        let dir = path.parent().unwrap_or(scope.dir);
        let scope = Scope { dir, environment: scope.environment };
        self.extended(reference, service, &Set { services, edits: &base.edits, file: &path }, &scope, chain)
    }

    /// Reads a file to extend from; its paths become absolute.
    fn base(&mut self, path: &Path, at: &Node, scope: &Scope<'_>) -> Result<Rc<Base>, Failed> {
        if let Some(base) = self.bases.get(path) {
            return Ok(Rc::clone(base));
        }
        if !self.problems.disk.is_file(path) {
            let shown = display_name(path, self.current_dir);
            self.problems.error(at.span, format!("cannot read {shown}: no such file or directory"));
            return Err(Failed);
        }
        let (mut tree, mut all_edits) = (empty(), Vec::new());
        for document in self.documents(path)? {
            let mut document = self.prepare(document, scope)?;
            let edits = take_edits(&mut document);
            canonicalise(&mut document, self.problems);
            delete(&mut tree, &edits);
            merge(&mut tree, document, &[], self.problems);
            all_edits = edits;
        }
        self.stop_on_errors()?;
        unify(&mut tree);
        self.paths(&mut tree, path.parent().unwrap_or(scope.dir), false);
        let base = Rc::new(Base { tree, edits: all_edits });
        self.bases.insert(path.to_path_buf(), Rc::clone(&base));
        Ok(base)
    }
}

fn circular(chain: &Chain, link: &(PathBuf, String), current_dir: &Path) -> String {
    let mut lines = vec!["Circular reference:".to_owned()];
    for (index, (file, service)) in chain.iter().chain([link]).enumerate() {
        let verb = if index == 0 { "" } else { "extends " };
        lines.push(format!("  {verb}{service} in {}", display_name(file, current_dir)));
    }
    lines.join("\n")
}
