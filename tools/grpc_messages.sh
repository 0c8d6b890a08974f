#!/bin/sh
# Generates the gRPC messages again, which are checked in. grpcio-tools lives in an environment of
# its own: generated code asks for a protobuf at least as new as its generator's.
set -eu

version=1.85.1
name=steelyard_serving/open_inference_grpc/open_inference
cd "$(dirname "$0")/../serving"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder"
"$folder/bin/pip" install -q "grpcio-tools==$version"
"$folder/bin/python" -m grpc_tools.protoc -I . --python_out=. --pyi_out=. "$name.proto"
