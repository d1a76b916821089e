//! ONNX files, as far as graphs of ours need them (onnx/onnx `onnx.proto3`). Weights are not in them: the runtime gets
//! those as tensors, so that a graph is a few kilobytes and no weight is held twice.

use dataset::proto::{put_bytes, put_varint};

/// What a tensor is made of; the numbers are ONNX's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    Float = 1,
    Uint8 = 2,
    Int8 = 3,
    Int32 = 6,
    Int64 = 7,
    Float16 = 10,
    Bfloat16 = 16,
}

/// A setting of a node.
#[derive(Clone, Copy, Debug)]
pub(super) enum Attribute {
    Int(i64),
    Ints(&'static [u8]),
    Float(f32),
}

/// A graph under construction.
#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: Vec<u8>,
    weights: Vec<u8>,
    inputs: Vec<u8>,
    outputs: Vec<u8>,
    count: usize,
}

/// Microsoft's operators, which every ONNX Runtime has.
pub(super) const MICROSOFT: &str = "com.microsoft";

impl Graph {
    /// An input; a dimension of `None` may be any.
    pub(super) fn input(&mut self, name: &str, element: Element, dimensions: &[Option<usize>]) {
        message(&mut self.inputs, 11, |info| described(info, name, element, dimensions));
    }

    pub(super) fn output(&mut self, name: &str, dimensions: &[Option<usize>]) {
        message(&mut self.outputs, 12, |info| described(info, name, Element::Float, dimensions));
    }

    /// A weight that the runtime gets under this name.
    pub(super) fn weight(&mut self, name: &str, element: Element, dimensions: &[usize]) {
        message(&mut self.weights, 5, |tensor| {
            dimensions.iter().for_each(|&length| number(tensor, 1, length as u64));
            number(tensor, 2, element as u64);
            put_bytes(tensor, 8, name.as_bytes());
            // The runtime asks for a file's name even where it gets the tensor otherwise.
            message(tensor, 13, |entry| {
                put_bytes(entry, 1, b"location");
                put_bytes(entry, 2, b"weights");
            });
            number(tensor, 14, 1);
        });
    }

    /// A node with one output, whose name is given back. `domain` is empty for ONNX's own operators; an empty input is
    /// one that is left out.
    pub(super) fn node(
        &mut self,
        domain: &str,
        operator: &str,
        inputs: &[&str],
        attributes: &[(&str, Attribute)],
    ) -> String {
        let output = format!("{operator}_{}", self.count);
        self.node_into(domain, operator, inputs, attributes, &output);
        output
    }

    /// The same with a name for the output.
    pub(super) fn node_into(
        &mut self,
        domain: &str,
        operator: &str,
        inputs: &[&str],
        attributes: &[(&str, Attribute)],
        output: &str,
    ) {
        self.count += 1;
        message(&mut self.nodes, 1, |node| {
            inputs.iter().for_each(|input| put_bytes(node, 1, input.as_bytes()));
            put_bytes(node, 2, output.as_bytes());
            put_bytes(node, 4, operator.as_bytes());
            for (name, attribute) in attributes {
                message(node, 5, |out| {
                    put_bytes(out, 1, name.as_bytes());
                    match *attribute {
                        Attribute::Float(value) => {
                            out.push(2 << 3 | 5);
                            out.extend(value.to_le_bytes());
                            number(out, 20, 1);
                        }
                        Attribute::Int(value) => {
                            number(out, 3, value as u64);
                            number(out, 20, 2);
                        }
                        Attribute::Ints(values) => {
                            values.iter().for_each(|&value| number(out, 8, value.into()));
                            number(out, 20, 7);
                        }
                    }
                });
            }
            put_bytes(node, 7, domain.as_bytes());
        });
    }

    /// The whole file.
    pub(super) fn model(&self) -> Vec<u8> {
        let mut model = Vec::new();
        number(&mut model, 1, 8); // of the format, as opset 17 has it
        put_bytes(&mut model, 2, b"laion400m");
        message(&mut model, 7, |graph| {
            graph.extend(&self.nodes);
            put_bytes(graph, 2, b"clip");
            graph.extend(&self.weights);
            graph.extend(&self.inputs);
            graph.extend(&self.outputs);
        });
        for (domain, version) in [("", 17), (MICROSOFT, 1)] {
            message(&mut model, 8, |opset| {
                put_bytes(opset, 1, domain.as_bytes());
                number(opset, 2, version);
            });
        }
        model
    }
}

/// A `ValueInfoProto`.
fn described(info: &mut Vec<u8>, name: &str, element: Element, dimensions: &[Option<usize>]) {
    put_bytes(info, 1, name.as_bytes());
    message(info, 2, |kind| {
        message(kind, 1, |tensor| {
            number(tensor, 1, element as u64);
            message(tensor, 2, |shape| {
                for (at, dimension) in dimensions.iter().enumerate() {
                    message(shape, 1, |out| match dimension {
                        Some(length) => number(out, 1, *length as u64),
                        None => put_bytes(out, 2, format!("{name}_{at}").as_bytes()),
                    });
                }
            });
        });
    });
}

fn number(out: &mut Vec<u8>, field: u64, value: u64) {
    put_varint(out, field << 3);
    put_varint(out, value);
}

fn message(out: &mut Vec<u8>, field: u64, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut content = Vec::new();
    fill(&mut content);
    put_bytes(out, field, &content);
}
