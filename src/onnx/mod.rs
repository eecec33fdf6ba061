//! All of ONNX: proto, file and external data, import, export, op versions, names.
