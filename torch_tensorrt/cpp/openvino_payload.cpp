#include "openvino_payload.h"

#include <set>

#include "errors.h"

namespace torchtrt {
namespace {

constexpr size_t kSmallest = 4096;

size_t count_of(const Json& value, const std::string& what) {
  const int64_t count = integer_of(value, what);
  if (count < 0) {
    fail<FileFormatError>(what, " is negative.");
  }
  return static_cast<size_t>(count);
}

std::vector<size_t> ports(const Json& value, const std::string& what) {
  std::vector<size_t> found;
  for (const Json& port : list_of(value, what)) {
    found.push_back(count_of(port, what));
  }
  return found;
}

std::vector<OpenVINOPayload::Piece> pieces(const Json& records, const uint8_t* const starts[2], const size_t sizes[2]) {
  const std::string what = "A piece of an OpenVINO engine's weights";
  std::vector<OpenVINOPayload::Piece> found;
  size_t total = 0;
  for (const Json& record : list_of(records, "The weights of an OpenVINO engine")) {
    const Json::List& numbers = list_of(record, what);
    if (numbers.size() != 3) {
      fail<FileFormatError>(what, " has ", numbers.size(), " numbers instead of 3.");
    }
    const size_t source = count_of(numbers[0], what), offset = count_of(numbers[1], what);
    const size_t length = count_of(numbers[2], what);
    if (source > 1 || offset > sizes[source] || length > sizes[source] - offset) {
      fail<FileFormatError>(what, " is outside of it.");
    }
    total += length;
    if (total > 2 * (sizes[0] + sizes[1]) + kSmallest) { // pieces may overlap, but not make a small file large
      fail<FileFormatError>("The weights of an OpenVINO engine add up to more than its bytes allow.");
    }
    found.push_back({starts[source] + offset, length});
  }
  return found;
}

// Only what engines/openvino/knobs.py writes: other properties make OpenVINO write files.
std::map<std::string, std::string> options_of(const Json& record) {
  static const std::set<std::string> known = {
      "ENABLE_CPU_PINNING",
      "ENABLE_HYPER_THREADING",
      "INFERENCE_NUM_THREADS",
      "NUM_STREAMS",
      "PERFORMANCE_HINT",
      "PERFORMANCE_HINT_NUM_REQUESTS"};
  const Json::Object* object = record.object();
  if (object == nullptr) {
    fail<FileFormatError>("The options of an OpenVINO engine are not an object.");
  }
  std::map<std::string, std::string> options;
  for (const auto& [name, value] : *object) {
    if (known.count(name) == 0) {
      fail<FileFormatError>("An OpenVINO engine asks for '", name, "', which is none of its options.");
    }
    options[name] = text_of(value, "An option of an OpenVINO engine");
  }
  return options;
}

} // namespace

OpenVINOPayload read_openvino_payload(const uint8_t* data, size_t size, const EngineSpec& spec) {
  const std::string what = "The index of an OpenVINO engine";
  if (size < 4) {
    fail<FileFormatError>("An OpenVINO engine of ", size, " bytes is too short to be one.");
  }
  const size_t length =
      size_t(data[0]) | size_t(data[1]) << 8 | size_t(data[2]) << 16 | size_t(data[3]) << 24; // little-endian
  if (length > size - 4) {
    fail<FileFormatError>("An OpenVINO engine of ", size, " bytes announces an index of ", length, ".");
  }
  const Json index = parse_json({reinterpret_cast<const char*>(data) + 4, length}, what);
  std::vector<std::string> names = {"precision", "blob", "literal", "xml", "weights", "inputs", "outputs", "snippets"};
  const bool refittable = index.object() != nullptr && index.object()->count("constants") == 1;
  if (refittable) {
    names.emplace_back("constants"); // for refitting in Python
  }
  const bool optional = index.object() != nullptr && index.object()->count("options") == 1;
  if (optional) {
    names.emplace_back("options");
  }
  const auto& fields = object_with(index, names, what);
  const size_t start = 4 + length;
  const size_t blob = count_of(fields.at("blob"), what), literal = count_of(fields.at("literal"), what);
  const size_t xml = count_of(fields.at("xml"), what);
  const size_t left = size - start;
  if (blob > left || literal > left - blob || xml != left - blob - literal) {
    fail<FileFormatError>("An OpenVINO engine of ", size, " bytes announces parts of other sizes.");
  }
  OpenVINOPayload payload;
  payload.precision = dtype_from_name(text_of(fields.at("precision"), what));
  if (payload.precision != c10::kFloat && payload.precision != c10::kBFloat16 && payload.precision != c10::kHalf) {
    fail<FileFormatError>("An OpenVINO engine can't compute in ", dtype_name(payload.precision), ".");
  }
  const bool* snippets = fields.at("snippets").boolean();
  if (snippets == nullptr) {
    fail<FileFormatError>(what, " has snippets that are neither true nor false.");
  }
  payload.snippets = *snippets;
  payload.refittable = refittable;
  if (optional) {
    payload.options = options_of(fields.at("options"));
  }
  payload.inputs = ports(fields.at("inputs"), what);
  payload.outputs = ports(fields.at("outputs"), what);
  for (const size_t input : payload.inputs) {
    if (input >= spec.inputs.size()) {
      fail<FileFormatError>("The wiring of an OpenVINO engine names input ", input, " of ", spec.inputs.size(), ".");
    }
  }
  if (payload.outputs.size() != spec.outputs.size()) {
    fail<FileFormatError>(
        "An OpenVINO engine with ", spec.outputs.size(), " outputs is wired for ", payload.outputs.size(), ".");
  }
  payload.blob = data + start;
  payload.blob_bytes = blob;
  payload.xml = {reinterpret_cast<const char*>(data) + start + blob + literal, xml};
  const uint8_t* const starts[] = {payload.blob, payload.blob + blob};
  const size_t sizes[] = {blob, literal};
  payload.pieces = pieces(fields.at("weights"), starts, sizes);
  return payload;
}

} // namespace torchtrt
