//! Values of a template, as Go sees them: a JSON object is a struct, a map, or
//! nothing but decoded JSON, and each answers differently when a name is missing.

use std::rc::Rc;

use serde_json::Value as Json;

/// A value.
#[derive(Debug, Clone)]
pub(super) enum Val {
    /// Go's invalid value: printed as `<no value>`.
    Missing,
    /// A nil pointer: printed as `<nil>`.
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Rc<str>),
    List(Rc<Vec<Val>>, Of),
    Object(Rc<Object>),
}

/// What a list holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Texts,
    Anything,
}

/// An object with its names in order.
#[derive(Debug)]
pub(super) struct Object {
    pub kind: Kind,
    pub fields: Vec<(String, Val)>,
}

/// How an object answers for names that it does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A Go struct of this type: unknown fields are errors.
    Struct(&'static str),
    /// A map from text to text.
    Texts,
    /// A map to anything else.
    Map,
    /// A map whose keys are ports; looked up in plain JSON.
    Ports,
    /// Decoded JSON: a missing key is an error.
    Raw,
}

/// Fields that are maps in Docker's structs, and what is missing from them.
const MAPS_OF_TEXT: &[&str] = &[
    "Annotations",
    "Attributes",
    "ContainerLabels",
    "Data",
    "DriverOpts",
    "Labels",
    "Options",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
];
const MAPS: &[&str] = &["Containers", "Networks", "Volumes"];
const MAPS_OF_PORTS: &[&str] = &["ExposedPorts", "PortBindings", "Ports"];

/// Fields that are lists, where JSON has null.
const LISTS: &[&str] = &[
    "Aliases",
    "Args",
    "Binds",
    "CapAdd",
    "CapDrop",
    "Cmd",
    "DNSNames",
    "DeviceRequests",
    "Devices",
    "Dns",
    "DnsOptions",
    "DnsSearch",
    "Entrypoint",
    "Env",
    "ExecIDs",
    "ExtraHosts",
    "GroupAdd",
    "Links",
    "MaskedPaths",
    "Mounts",
    "OnBuild",
    "ReadonlyPaths",
    "RepoDigests",
    "RepoTags",
    "SecurityOpt",
    "Shell",
    "Ulimits",
    "VolumesFrom",
];

/// Fields that JSON leaves out when they are empty, and Docker's structs have.
const OMITTED: &[(&str, Omitted)] = &[
    ("Annotations", Omitted::Map),
    ("Comment", Omitted::Text),
    ("Driver", Omitted::Text),
    ("ExposedPorts", Omitted::Map),
    ("Health", Omitted::Nil),
    ("Healthcheck", Omitted::Nil),
    ("Init", Omitted::Nil),
    ("MacAddress", Omitted::Text),
    ("Mounts", Omitted::List),
    ("Name", Omitted::Text),
    ("OnBuild", Omitted::List),
    ("Shell", Omitted::List),
    ("SizeRootFs", Omitted::Nil),
    ("SizeRw", Omitted::Nil),
    ("StopSignal", Omitted::Text),
    ("StopTimeout", Omitted::Nil),
    ("StorageOpt", Omitted::Map),
    ("Sysctls", Omitted::Map),
    ("Tmpfs", Omitted::Map),
    ("UsageData", Omitted::Nil),
    ("Variant", Omitted::Text),
    ("Volumes", Omitted::Map),
];

#[derive(Clone, Copy)]
enum Omitted {
    Text,
    Nil,
    List,
    Map,
}

impl Val {
    pub(super) fn text(text: &str) -> Self {
        Self::Text(text.into())
    }

    pub(super) fn texts(texts: impl IntoIterator<Item = String>) -> Self {
        Self::List(Rc::new(texts.into_iter().map(|text| Self::Text(text.into())).collect()), Of::Texts)
    }

    /// Decoded JSON, without any knowledge of types.
    pub(super) fn raw(json: &Json) -> Self {
        match json {
            Json::Null => Self::Missing,
            Json::Array(all) => Self::List(Rc::new(all.iter().map(Self::raw).collect()), Of::Anything),
            Json::Object(all) => Self::Object(Rc::new(Object {
                kind: Kind::Raw,
                fields: all.iter().map(|(key, value)| (key.clone(), Self::raw(value))).collect(),
            })),
            scalar => Self::scalar(scalar),
        }
    }

    /// JSON as Docker's structs have it. `name` is the field that holds it.
    pub(super) fn typed(json: &Json, name: &str, kind: Kind) -> Self {
        match json {
            Json::Null if LISTS.contains(&name) => Self::List(Rc::default(), Of::Texts),
            Json::Null => match map_kind(name, kind) {
                Some(kind) => Self::Object(Rc::new(Object { kind, fields: Vec::new() })),
                None => Self::Nil,
            },
            Json::Array(all) => {
                let of = if all.iter().all(Json::is_string) { Of::Texts } else { Of::Anything };
                Self::List(Rc::new(all.iter().map(|value| Self::typed(value, "", kind)).collect()), of)
            }
            Json::Object(all) => {
                let kind = map_kind(name, kind).unwrap_or(match kind {
                    Kind::Struct(_) if name.is_empty() => kind,
                    _ => Kind::Struct("struct"),
                });
                let typed = |(key, value): (&String, &Json)| (key.clone(), Self::typed(value, member(kind, key), kind));
                Self::Object(Rc::new(Object { kind, fields: all.iter().map(typed).collect() }))
            }
            scalar => Self::scalar(scalar),
        }
    }

    fn scalar(json: &Json) -> Self {
        match json {
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => match number.as_i64() {
                Some(value) => Self::Int(value),
                None => Self::Float(number.as_f64().unwrap_or_default()),
            },
            Json::String(text) => Self::text(text),
            _ => Self::Missing,
        }
    }

    /// Whether `if` takes it for true.
    pub(super) fn truth(&self) -> bool {
        match self {
            Self::Missing | Self::Nil => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::List(all, _) => !all.is_empty(),
            Self::Object(object) => matches!(object.kind, Kind::Struct(_)) || !object.fields.is_empty(),
        }
    }

    /// The name of its type in Go.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Missing | Self::Nil => "interface {}",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float64",
            Self::Text(_) => "string",
            Self::List(_, Of::Texts) => "[]string",
            Self::List(_, Of::Anything) => "[]interface {}",
            Self::Object(object) => match object.kind {
                Kind::Struct(name) => name,
                Kind::Texts => "map[string]string",
                Kind::Map | Kind::Ports | Kind::Raw => "map[string]interface {}",
            },
        }
    }
}

fn member(kind: Kind, key: &str) -> &str {
    match kind {
        Kind::Struct(_) => key,
        _ => "",
    }
}

fn map_kind(name: &str, parent: Kind) -> Option<Kind> {
    match () {
        () if !matches!(parent, Kind::Struct(_)) => None,
        () if MAPS_OF_TEXT.contains(&name) => Some(Kind::Texts),
        () if MAPS.contains(&name) => Some(Kind::Map),
        () if MAPS_OF_PORTS.contains(&name) => Some(Kind::Ports),
        () => None,
    }
}

impl Object {
    pub(super) fn get(&self, name: &str) -> Option<&Val> {
        self.fields.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// The value of a struct's field that JSON has left out.
    pub(super) fn omitted(&self, name: &str) -> Option<Val> {
        let (_, omitted) = OMITTED.iter().find(|(known, _)| *known == name)?;
        Some(match omitted {
            Omitted::Text => Val::text(""),
            Omitted::Nil => Val::Nil,
            Omitted::List => Val::List(Rc::default(), Of::Texts),
            Omitted::Map => Val::Object(Rc::new(Object { kind: Kind::Map, fields: Vec::new() })),
        })
    }

    /// Keys and values, sorted by key as Go's maps are when they are ranged over.
    pub(super) fn sorted(&self) -> Vec<(String, Val)> {
        let mut all = self.fields.clone();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }
}

/// As Go's `fmt.Print` prints it.
impl std::fmt::Display for Val {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing => f.write_str("<no value>"),
            Self::Nil => f.write_str("<nil>"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Float(value) => f.write_str(&super::printf::general(*value, None, false)),
            Self::Text(text) => f.write_str(text),
            Self::List(all, _) => write!(f, "[{}]", joined(all.iter().map(inner))),
            Self::Object(object) => match object.kind {
                Kind::Struct(_) => write!(f, "{{{}}}", joined(object.fields.iter().map(|(_, value)| inner(value)))),
                _ => {
                    let entry = |(key, value): (String, Val)| format!("{key}:{}", inner(&value));
                    write!(f, "map[{}]", joined(object.sorted().into_iter().map(entry)))
                }
            },
        }
    }
}

fn inner(value: &Val) -> String {
    match value {
        Val::Missing => "<nil>".into(),
        value => value.to_string(),
    }
}

fn joined(all: impl Iterator<Item = String>) -> String {
    all.collect::<Vec<_>>().join(" ")
}

/// As Go's encoder writes it; structs keep their order, maps are sorted.
pub(super) fn json(value: &Val) -> Json {
    match value {
        Val::Missing | Val::Nil => Json::Null,
        Val::Bool(value) => Json::Bool(*value),
        Val::Int(value) => Json::from(*value),
        Val::Float(value) if value.fract() == 0.0 && value.abs() < 1e15 =>
        {
            #[allow(clippy::cast_possible_truncation, reason = "a whole number of at most 15 digits")]
            Json::from(*value as i64)
        }
        Val::Float(value) => serde_json::Number::from_f64(*value).map_or(Json::Null, Json::Number),
        Val::Text(text) => Json::String(text.to_string()),
        Val::List(all, _) => Json::Array(all.iter().map(json).collect()),
        Val::Object(object) => {
            let fields = match object.kind {
                Kind::Struct(_) => object.fields.clone(),
                _ => object.sorted(),
            };
            Json::Object(fields.into_iter().map(|(key, value)| (key, json(&value))).collect())
        }
    }
}
