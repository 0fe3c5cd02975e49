// What a saved engine says about itself, and the bytes it comes in: package/FORMAT.md.
#pragma once

#include <c10/core/DeviceType.h>
#include <c10/core/ScalarType.h>
#include <c10/util/ArrayRef.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "json.h"
#include "size_expr.h"

namespace torchtrt {

// One size: fixed, or an expression with its range.
struct Size {
  int64_t fixed = 0;
  std::optional<SizeExpr> expr;
  int64_t min = 0;
  std::optional<int64_t> max;
};

struct TensorSpec {
  std::string name;
  c10::ScalarType dtype;
  c10::DeviceType device;
  std::vector<Size> shape;

  bool is_static() const;
  std::vector<int64_t> sizes(const Values& values) const;
};

struct EngineSpec {
  std::string name;
  std::string backend;
  int64_t format_version = 0;
  std::string target;
  std::map<std::string, std::string> versions;
  std::vector<TensorSpec> inputs;
  std::vector<TensorSpec> outputs;
  Symbols symbols;

  // The value of every symbol that the shapes of `inputs` tell. Throws InputError when they contradict the spec's form.
  Values solve(const std::vector<c10::IntArrayRef>& shapes) const;
};

struct DecodedEngine {
  EngineSpec spec;
  const uint8_t* payload = nullptr; // inside the bytes that were decoded
  size_t payload_bytes = 0;
  bool portable = false; // a program stands behind the payload; only the Python runtime builds engines from it
};

// Takes the bytes of an engine apart and checks them. `graph_spec` is the JSON that the graph carries: it must say the same.
// `verify` = false leaves the payload's hash unchecked, for bytes whose file was checked. Throws FileFormatError.
DecodedEngine decode_engine(const uint8_t* data, size_t size, std::optional<std::string_view> graph_spec, bool verify);

// PyTorch's name of a dtype, "float32", and the inverse (FileFormatError for an unknown name).
std::string dtype_name(c10::ScalarType dtype);
c10::ScalarType dtype_from_name(const std::string& name);

// Fields of JSON objects. All throw FileFormatError, naming `what`, when the value is of another kind.
const Json::Object& object_with(const Json& value, const std::vector<std::string>& fields, const std::string& what);
const std::string& text_of(const Json& value, const std::string& what);
int64_t integer_of(const Json& value, const std::string& what);
const Json::List& list_of(const Json& value, const std::string& what);

} // namespace torchtrt
