#include "engine_spec.h"

#include <cstring>
#include <utility>

#include "errors.h"
#include "sha256.h"

namespace torchtrt {
namespace {

constexpr std::string_view kMagic = "TRTANYWH";
constexpr uint32_t kVersion = 1;
constexpr size_t kPrefix = 16; // magic, format version, length of the header
constexpr size_t kLongestHeader = 16 << 20;
constexpr size_t kAlignment = 64;

const std::pair<const char*, c10::ScalarType> kDtypes[] = {
    {"float32", c10::kFloat},        {"float16", c10::kHalf},
    {"bfloat16", c10::kBFloat16},    {"float64", c10::kDouble},
    {"int64", c10::kLong},           {"int32", c10::kInt},
    {"int16", c10::kShort},          {"int8", c10::kChar},
    {"uint8", c10::kByte},           {"bool", c10::kBool},
    {"complex64", c10::kComplexFloat}, {"complex128", c10::kComplexDouble},
    {"float8_e4m3fn", c10::kFloat8_e4m3fn}, {"float8_e5m2", c10::kFloat8_e5m2},
};

uint32_t little_endian(const uint8_t* bytes) {
  return uint32_t(bytes[0]) | uint32_t(bytes[1]) << 8 | uint32_t(bytes[2]) << 16 | uint32_t(bytes[3]) << 24;
}

Size size_from_json(const Json& record, Symbols& symbols) {
  Size size;
  if (const int64_t* fixed = record.integer()) {
    if (*fixed < 0) {
      fail<FileFormatError>("An engine's description holds the size ", *fixed, ", which is negative.");
    }
    size.fixed = *fixed;
    return size;
  }
  const auto& fields = object_with(record, {"expr", "min", "opt", "max"}, "A size in an engine's description");
  size.expr.emplace(text_of(fields.at("expr"), "A size's expr"), symbols);
  size.min = integer_of(fields.at("min"), "A size's min");
  size.fixed = integer_of(fields.at("opt"), "A size's opt");
  if (!fields.at("max").is_null()) {
    size.max = integer_of(fields.at("max"), "A size's max");
  }
  return size;
}

std::vector<TensorSpec> tensors_from_json(const Json& records, Symbols& symbols) {
  std::vector<TensorSpec> tensors;
  for (const Json& record : list_of(records, "The tensors in an engine's description")) {
    const auto& fields = object_with(record, {"name", "dtype", "shape", "device"}, "A tensor's description");
    const std::string& device = text_of(fields.at("device"), "A tensor's device");
    if (device != "cpu" && device != "cuda") {
      fail<FileFormatError>("An engine's description holds the device '", device, "', which this runtime does not know.");
    }
    TensorSpec tensor{
        text_of(fields.at("name"), "A tensor's name"),
        dtype_from_name(text_of(fields.at("dtype"), "A tensor's dtype")),
        device == "cpu" ? c10::kCPU : c10::kCUDA,
        {}};
    for (const Json& size : list_of(fields.at("shape"), "A tensor's shape")) {
      tensor.shape.push_back(size_from_json(size, symbols));
    }
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

EngineSpec spec_from_json(const Json& record) {
  const auto& fields = object_with(
      record,
      {"name", "backend", "format_version", "target", "settings_key", "inputs", "outputs", "versions"},
      "An engine's description");
  EngineSpec spec;
  spec.name = text_of(fields.at("name"), "An engine's name");
  spec.backend = text_of(fields.at("backend"), "An engine's backend");
  spec.format_version = integer_of(fields.at("format_version"), "An engine's format_version");
  spec.target = text_of(fields.at("target"), "An engine's target");
  text_of(fields.at("settings_key"), "An engine's settings_key");
  spec.inputs = tensors_from_json(fields.at("inputs"), spec.symbols);
  spec.outputs = tensors_from_json(fields.at("outputs"), spec.symbols);
  const Json::Object* versions = fields.at("versions").object();
  if (versions == nullptr) {
    fail<FileFormatError>("Field 'versions' of an engine's description is not an object.");
  }
  for (const auto& [package, version] : *versions) {
    spec.versions[package] = text_of(version, "A version in an engine's description");
  }
  return spec;
}

// Where the payload begins.
size_t check_prefix(const uint8_t* data, size_t size, size_t& header_bytes) {
  if (size < kPrefix) {
    fail<FileFormatError>(size, " bytes are too few for an engine.");
  }
  if (std::memcmp(data, kMagic.data(), kMagic.size()) != 0) {
    fail<FileFormatError>("This is not an engine of torch_tensorrt: it does not start with '", kMagic, "'.");
  }
  if (const uint32_t version = little_endian(data + 8); version != kVersion) {
    fail<FileFormatError>(
        "The engine has format ", version, "; this runtime reads format ", kVersion,
        ". Load it with the version that wrote it, or compile and save the model again.");
  }
  header_bytes = little_endian(data + 12);
  const size_t end = kPrefix + header_bytes;
  const size_t start = (end + kAlignment - 1) / kAlignment * kAlignment;
  if (header_bytes > kLongestHeader || end > size) {
    fail<FileFormatError>(
        "The engine's header should have ", header_bytes, " bytes; ", size - kPrefix, " are there.");
  }
  for (size_t at = end; at < start && at < size; ++at) {
    if (data[at] != 0) {
      fail<FileFormatError>("The padding after the engine's header is not zero; the file was changed.");
    }
  }
  return start;
}

} // namespace

bool TensorSpec::is_static() const {
  for (const Size& size : shape) {
    if (size.expr) {
      return false;
    }
  }
  return true;
}

std::vector<int64_t> TensorSpec::sizes(const Values& values) const {
  std::vector<int64_t> sizes;
  sizes.reserve(shape.size());
  for (const Size& size : shape) {
    sizes.push_back(size.expr ? (*size.expr)(values) : size.fixed);
    if (sizes.back() < 0) {
      fail<InputError>("The size ", sizes.back(), " of '", name, "' is negative.");
    }
  }
  return sizes;
}

Values EngineSpec::solve(const std::vector<c10::IntArrayRef>& shapes) const {
  Values values(symbols.count());
  for (size_t input = 0; input < inputs.size(); ++input) {
    for (size_t dim = 0; dim < inputs[input].shape.size(); ++dim) {
      const auto& expr = inputs[input].shape[dim].expr;
      if (const auto symbol = expr ? expr->symbol() : std::nullopt; symbol && !values[*symbol]) {
        values[*symbol] = shapes[input][dim];
      }
    }
  }
  for (size_t input = 0; input < inputs.size(); ++input) {
    for (size_t dim = 0; dim < inputs[input].shape.size(); ++dim) {
      if (const auto& expr = inputs[input].shape[dim].expr) {
        solve_linear(*expr, shapes[input][dim], symbols, values);
      }
    }
  }
  return values;
}

// The length of the program behind a payload, with the gap before it. Python reads the program; here it is passed over.
static uint64_t program_bytes(const Json& about, int64_t payload_bytes) {
  const auto& fields = object_with(about, {"bytes", "sha256", "options"}, "Field 'program' of the engine's header");
  const int64_t bytes = integer_of(fields.at("bytes"), "Field 'bytes' of the program in the engine's header");
  if (bytes < 0 || payload_bytes < 0) {
    fail<FileFormatError>("The program in the engine's header has ", bytes, " bytes.");
  }
  constexpr int64_t alignment = 64;
  return static_cast<uint64_t>(bytes) + static_cast<uint64_t>((alignment - payload_bytes % alignment) % alignment);
}

DecodedEngine decode_engine(const uint8_t* data, size_t size, std::optional<std::string_view> graph_spec, bool verify) {
  size_t header_bytes = 0;
  const size_t start = check_prefix(data, size, header_bytes);
  const std::string_view text(reinterpret_cast<const char*>(data) + kPrefix, header_bytes);
  const Json header = parse_json(text, "The engine's header");
  std::vector<std::string> names = {"spec", "python", "torch", "payload_bytes", "sha256"};
  if (header.object() != nullptr && header.object()->count("origin") == 1) {
    names.emplace_back("origin"); // how the model was made, for refitting in Python
  }
  const bool portable = header.object() != nullptr && header.object()->count("program") == 1;
  if (portable) {
    names.emplace_back("program"); // what the engine computes, after the payload, for machines that it doesn't fit
  }
  const auto& fields = object_with(header, names, "The engine's header");
  text_of(fields.at("python"), "Field 'python' of the engine's header");
  text_of(fields.at("torch"), "Field 'torch' of the engine's header");
  const int64_t payload_bytes = integer_of(fields.at("payload_bytes"), "Field 'payload_bytes' of the engine's header");
  const std::string& digest = text_of(fields.at("sha256"), "Field 'sha256' of the engine's header");
  DecodedEngine decoded{spec_from_json(fields.at("spec")), data + start, 0, portable};
  const uint64_t rest = portable ? program_bytes(fields.at("program"), payload_bytes) : 0;
  if (payload_bytes < 0 || start > size || static_cast<uint64_t>(payload_bytes) > size - start ||
      static_cast<uint64_t>(payload_bytes) + rest != size - start) {
    fail<FileFormatError>(
        "Engine '", decoded.spec.name, "' should have ", payload_bytes, " bytes after its header of ", start, "; ",
        size < start ? 0 : size - start,
        " are there. The file was cut off or something was added; save the model again.");
  }
  decoded.payload_bytes = static_cast<size_t>(payload_bytes);
  if (verify && sha256(decoded.payload, decoded.payload_bytes) != digest) {
    fail<FileFormatError>(
        "The bytes of engine '", decoded.spec.name, "' were changed after they were written; save the model again.");
  }
  if (graph_spec && !(parse_json(*graph_spec, "The description in the graph") == fields.at("spec"))) {
    fail<FileFormatError>(
        "The graph describes engine '", decoded.spec.name,
        "' otherwise than its own header does; the file was changed.");
  }
  return decoded;
}

std::string dtype_name(c10::ScalarType dtype) {
  for (const auto& [name, known] : kDtypes) {
    if (known == dtype) {
      return name;
    }
  }
  return c10::toString(dtype);
}

c10::ScalarType dtype_from_name(const std::string& name) {
  for (const auto& [known, dtype] : kDtypes) {
    if (known == name) {
      return dtype;
    }
  }
  fail<FileFormatError>("'", name.substr(0, 60), "' is not the name of a dtype that this runtime knows.");
}

const Json::Object& object_with(const Json& value, const std::vector<std::string>& fields, const std::string& what) {
  const Json::Object* object = value.object();
  bool right = object != nullptr && object->size() == fields.size();
  std::string listed;
  for (const std::string& field : fields) {
    right = right && object->count(field) == 1;
    listed += (listed.empty() ? "" : ", ") + field;
  }
  if (!right) {
    fail<FileFormatError>(what, " needs exactly the fields ", listed, ".");
  }
  return *object;
}

const std::string& text_of(const Json& value, const std::string& what) {
  return value.text() != nullptr ? *value.text() : (fail<FileFormatError>(what, " is not a text."), *value.text());
}

int64_t integer_of(const Json& value, const std::string& what) {
  return value.integer() != nullptr ? *value.integer() : (fail<FileFormatError>(what, " is not an integer."), 0);
}

const Json::List& list_of(const Json& value, const std::string& what) {
  return value.list() != nullptr ? *value.list() : (fail<FileFormatError>(what, " is not a list."), *value.list());
}

} // namespace torchtrt
