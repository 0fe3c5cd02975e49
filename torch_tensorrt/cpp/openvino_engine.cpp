// A compiled OpenVINO model as an engine: any number of threads, no copies of any but the smallest tensors.
//
// Telling a request of another place in memory costs more than copying a few kilobytes: small tensors of fixed size are
// copied to and from memory that a request is told of once.
#include "openvino_engine.h"

#include <ATen/EmptyTensor.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <openvino/openvino.hpp>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <set>

#include "errors.h"
#include "input_check.h"
#include "openvino_payload.h"

namespace torchtrt {
namespace {

constexpr size_t kSmall = 32 * 1024; // bytes
constexpr size_t kAlignment = 64;

ov::Core& core() {
  static ov::Core* made = new ov::Core(); // never destroyed: engines may outlive the static objects of the process
  return *made;
}

std::string target() {
  std::string name = core().get_property("CPU", ov::device::full_name);
  const auto is_space = [](char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\0'; };
  while (!name.empty() && is_space(name.back())) {
    name.pop_back();
  }
  name.erase(0, name.find_first_not_of(" \t\n"));
  std::vector<std::string> can = core().get_property("CPU", ov::device::capabilities);
  std::sort(can.begin(), can.end());
  can.erase(std::unique(can.begin(), can.end()), can.end());
  std::string text = "cpu;" + name + ";";
  for (size_t at = 0; at < can.size(); ++at) {
    text += (at > 0 ? " " : "") + can[at];
  }
  return text;
}

// The options of engines/openvino/sdk.py.
ov::AnyMap config(const OpenVINOPayload& payload) {
  const c10::ScalarType precision = payload.precision;
  const std::string hint = precision == c10::kFloat ? "f32" : precision == c10::kHalf ? "f16" : "bf16";
  ov::AnyMap wanted = {
      {"PERFORMANCE_HINT", "LATENCY"},
      {"INFERENCE_PRECISION_HINT", hint},
      {"DYNAMIC_QUANTIZATION_GROUP_SIZE", 0},
      {"KV_CACHE_PRECISION", hint}};
  for (const auto& [name, value] : payload.options) {
    wanted[name] = value;
  }
  const auto known = core().get_property("CPU", ov::supported_properties);
  ov::AnyMap options;
  for (const auto& [name, value] : wanted) {
    if (std::find(known.begin(), known.end(), name) != known.end()) {
      options[name] = value;
    }
  }
  if (!payload.snippets) {
    options["SNIPPETS_MODE"] = "DISABLE";
  }
  return options;
}

ov::element::Type element_type(c10::ScalarType dtype) {
  switch (dtype) {
    case c10::kFloat:
      return ov::element::f32;
    case c10::kHalf:
      return ov::element::f16;
    case c10::kBFloat16:
      return ov::element::bf16;
    case c10::kDouble:
      return ov::element::f64;
    case c10::kLong:
      return ov::element::i64;
    case c10::kInt:
      return ov::element::i32;
    case c10::kShort:
      return ov::element::i16;
    case c10::kChar:
      return ov::element::i8;
    case c10::kByte:
      return ov::element::u8;
    case c10::kBool:
      return ov::element::boolean;
    default:
      fail<FileFormatError>("OpenVINO has no tensors of ", dtype_name(dtype), ".");
  }
}

// Whether the sizes of `output` can be computed from those of the inputs: raw engines don't tell how.
bool follows(const TensorSpec& output, const std::vector<TensorSpec>& inputs) {
  std::set<size_t> known;
  for (const TensorSpec& tensor : inputs) {
    for (const Size& size : tensor.shape) {
      if (size.expr) {
        known.insert(size.expr->symbols_used().begin(), size.expr->symbols_used().end());
      }
    }
  }
  return std::all_of(output.shape.begin(), output.shape.end(), [&](const Size& size) {
    return !size.expr ||
        std::includes(
            known.begin(), known.end(), size.expr->symbols_used().begin(), size.expr->symbols_used().end());
  });
}

size_t bytes_of(const TensorSpec& spec) {
  size_t count = c10::elementSize(spec.dtype);
  for (const Size& size : spec.shape) {
    count *= static_cast<size_t>(size.fixed);
  }
  return count;
}

// One tensor of the model: which of the engine's it is, and how it is shown to a request.
struct Port {
  size_t port;
  size_t place;
  ov::element::Type type;
  c10::ScalarType dtype;
  size_t bytes; // of a small tensor, else 0
};

// Engine output that is an engine input, or another output, once more.
struct Copy {
  size_t place;
  bool from_input;
  size_t source;
};

// OpenVINO computes int64 in int32, and would clip in silence what doesn't fit. `tensor` is contiguous.
void check_int32(const EngineSpec& engine, const TensorSpec& spec, const at::Tensor& tensor) {
  if (tensor.numel() == 0) {
    return;
  }
  const auto* first = static_cast<const int64_t*>(tensor.const_data_ptr());
  int64_t low = *first, high = *first;
  for (const int64_t* value = first; value != first + tensor.numel(); ++value) {
    low = std::min(low, *value);
    high = std::max(high, *value);
  }
  if (low < INT32_MIN || high > INT32_MAX) {
    fail<InputError>(
        "Engine '", engine.name, "': input '", spec.name, "' holds values from ", low, " to ", high,
        "; OpenVINO computes whole numbers in int32. Run what needs them in PyTorch (torch_executed_ops) or with "
        "engine='eager'.");
  }
}

// An infer request, the memory it is bound to, and what it was told last.
struct Slot {
  struct Bound {
    const void* data = nullptr;
    std::vector<int64_t> sizes;
  };
  ov::InferRequest request;
  std::vector<ov::Tensor> memory; // of the small inputs, then of the small outputs
  std::vector<Bound> inputs; // of the large ones
  std::vector<Bound> outputs;
  std::vector<std::vector<int64_t>> solved_for; // the inputs' sizes for which output_sizes was computed
  std::vector<std::vector<int64_t>> output_sizes;
};

ov::Shape shape_of(c10::IntArrayRef sizes) {
  return ov::Shape(sizes.begin(), sizes.end());
}

// An empty tensor may have no memory, and OpenVINO wants an address all the same.
void* address(const void* data) {
  static uint64_t nothing = 0;
  return data == nullptr ? &nothing : const_cast<void*>(data); // what is only read is asked for as writable too
}

class OpenVINOEngine final : public Engine {
 public:
  OpenVINOEngine(DecodedEngine decoded, c10::Storage storage)
      : Engine(std::move(decoded.spec)), storage_(std::move(storage)) {
    const auto payload = read_openvino_payload(decoded.payload, decoded.payload_bytes, spec_);
    try {
      compile(payload);
      wire(payload);
    } catch (const ov::Exception& error) {
      fail<FileFormatError>(
          "OpenVINO can't read engine '", spec_.name, "', built with ", built_with(), ": ", error.what());
    }
    static_ = true;
    for (const TensorSpec& tensor : spec_.inputs) {
      static_ = static_ && tensor.is_static();
    }
    for (const TensorSpec& tensor : spec_.outputs) {
      known_.push_back(follows(tensor, spec_.inputs));
      if (static_ && !known_.back()) {
        fixed_sizes_.emplace_back();
        continue;
      }
      if (static_ && !tensor.is_static()) {
        fail<FileFormatError>("Engine '", spec_.name, "' has outputs that vary and inputs that don't.");
      }
      if (static_) {
        fixed_sizes_.push_back(tensor.sizes({}));
      }
    }
  }

  Tensors run(c10::ArrayRef<at::Tensor> inputs) override {
    check_inputs(spec_, inputs);
    std::unique_ptr<Slot> slot = take();
    const auto& sizes = static_ ? fixed_sizes_ : sizes_for(*slot, inputs);
    at::AutoDispatchBelowADInplaceOrView guard;
    Tensors kept; // copies of inputs that OpenVINO can't read where they are
    feed(*slot, inputs, kept);
    Tensors outputs = allocate(sizes);
    bind(*slot, sizes, outputs);
    slot->request.infer();
    for (const Port& port : found_outputs_) {
      const ov::Tensor found = slot->request.get_output_tensor(port.port);
      const ov::Shape sizes_found = found.get_shape();
      const std::vector<int64_t> shape(sizes_found.begin(), sizes_found.end());
      outputs[port.place] = at::detail::empty_cpu(shape, port.dtype);
      std::memcpy(address(outputs[port.place].mutable_data_ptr()), found.data(), found.get_byte_size());
    }
    for (size_t at = 0; at < small_outputs_.size(); ++at) {
      const Port& port = small_outputs_[at];
      std::memcpy(
          outputs[port.place].mutable_data_ptr(), slot->memory[small_inputs_.size() + at].data(), port.bytes);
    }
    give_back(std::move(slot)); // not reached after an error: a request in an unknown state is dropped
    for (const Copy& copy : copies_) {
      outputs[copy.place] = (copy.from_input ? inputs[copy.source] : outputs[copy.source]).detach().clone();
    }
    return outputs;
  }

 private:
  std::string built_with() const {
    const auto version = spec_.versions.find("openvino");
    return "OpenVINO " + (version == spec_.versions.end() ? "None" : version->second) + " for " + spec_.target;
  }

  void compile(const OpenVINOPayload& payload) {
    const ov::AnyMap options = config(payload);
    const std::string version = ov::get_openvino_version().buildNumber, here = target();
    const bool fits = built_with() == "OpenVINO " + version + " for " + here;
    if (fits && !payload.refittable) {
      const ov::Tensor blob(ov::element::u8, {payload.blob_bytes}, const_cast<uint8_t*>(payload.blob));
      compiled_ = core().import_model(blob, "CPU", options);
      return;
    }
    if (!fits && payload.xml.empty()) {
      fail<EngineNotRunnable>(
          "Engine '", spec_.name, "' is a raw engine that was embedded with ", built_with(), "; this is OpenVINO ", version,
          " on ", here,
          ". It holds nothing to compile again; compile the model here, or embed an engine that was made here.");
    }
    if (!payload.refittable) { // else it is compiled wherever it is read
      notice_ = "Engine '" + spec_.name + "' was built with " + built_with() + "; this is OpenVINO " + version + " on " +
          here + ". It is compiled again now; save it here to load it fast.";
    }
    if (payload.xml.find("<!") != std::string_view::npos) { // a DOCTYPE or CDATA: OpenVINO writes neither
      fail<FileFormatError>("The representation in an OpenVINO engine holds a document type declaration.");
    }
    put_weights_together(payload.pieces);
    compiled_ = core().compile_model(core().read_model(std::string(payload.xml), weights_), "CPU", options);
  }

  void put_weights_together(const std::vector<OpenVINOPayload::Piece>& pieces) {
    if (pieces.size() == 1) { // they are already: OpenVINO may borrow them, for the constant outlives the model
      weights_ = ov::Tensor(ov::element::u8, {pieces[0].size}, const_cast<uint8_t*>(pieces[0].data));
      return;
    }
    size_t total = 0;
    for (const auto& piece : pieces) {
      total += piece.size;
    }
    weights_ = ov::Tensor(ov::element::u8, {total});
    auto* end = static_cast<uint8_t*>(weights_.data());
    for (const auto& piece : pieces) {
      end = std::copy_n(piece.data, piece.size, end);
    }
  }

  Port port_of(size_t port, size_t place, const TensorSpec& spec, const ov::Output<const ov::Node>& model) const {
    const Port made{
        port, place, element_type(spec.dtype), spec.dtype,
        spec.is_static() && bytes_of(spec) <= kSmall ? bytes_of(spec) : 0};
    if (model.get_element_type() != made.type ||
        !model.get_partial_shape().rank().compatible(ov::Rank(static_cast<int64_t>(spec.shape.size())))) {
      fail<FileFormatError>(
          "Engine '", spec_.name, "' describes '", spec.name, "' otherwise than the model inside it does.");
    }
    return made;
  }

  void wire(const OpenVINOPayload& payload) {
    const size_t inputs = compiled_.inputs().size(), outputs = compiled_.outputs().size();
    bool fits = payload.inputs.size() == inputs;
    for (const size_t port : payload.outputs) {
      fits = fits && port < outputs;
    }
    if (!fits) {
      fail<FileFormatError>(
          "The wiring of engine '", spec_.name, "' does not fit a model with ", inputs, " inputs and ", outputs,
          " outputs.");
    }
    for (size_t port = 0; port < inputs; ++port) {
      const size_t place = payload.inputs[port];
      const Port made = port_of(port, place, spec_.inputs[place], compiled_.input(port));
      (made.bytes > 0 ? small_inputs_ : inputs_).push_back(made);
    }
    const auto through = passed_through();
    std::map<size_t, size_t> written;
    for (size_t place = 0; place < payload.outputs.size(); ++place) {
      const size_t port = payload.outputs[place];
      const Port made = port_of(port, place, spec_.outputs[place], compiled_.output(port));
      if (const auto input = through.find(port); input != through.end()) {
        copies_.push_back({place, true, payload.inputs[input->second]});
      } else if (const auto [first, is_new] = written.emplace(port, place); !is_new) {
        copies_.push_back({place, false, first->second});
      } else if (!follows(spec_.outputs[place], spec_.inputs)) {
        found_outputs_.push_back(made);
      } else {
        (made.bytes > 0 ? small_outputs_ : outputs_).push_back(made);
      }
    }
  }

  // Model output -> model input, for outputs that are inputs as they are: OpenVINO does not write these to given memory.
  std::map<size_t, size_t> passed_through() const {
    std::map<std::string, size_t> inputs, outputs;
    for (size_t at = 0; at < compiled_.inputs().size(); ++at) {
      inputs[compiled_.input(at).get_node()->get_friendly_name()] = at;
    }
    for (size_t at = 0; at < compiled_.outputs().size(); ++at) {
      outputs[compiled_.output(at).get_node()->get_friendly_name()] = at;
    }
    std::map<size_t, size_t> found;
    const auto model = compiled_.get_runtime_model();
    for (const auto& result : model->get_results()) {
      const auto source = result->input_value(0).get_node_shared_ptr();
      if (std::string(source->get_type_name()) == "Parameter") {
        found[outputs.at(result->get_friendly_name())] = inputs.at(source->get_friendly_name());
      }
    }
    return found;
  }

  std::unique_ptr<Slot> take() {
    {
      const std::lock_guard<std::mutex> lock(free_mutex_);
      if (!free_.empty()) {
        std::unique_ptr<Slot> slot = std::move(free_.back());
        free_.pop_back();
        return slot;
      }
    }
    auto slot = std::make_unique<Slot>();
    slot->request = compiled_.create_infer_request();
    for (const Port& port : small_inputs_) {
      slot->memory.emplace_back(port.type, shape_of(spec_.inputs[port.place].sizes({})));
      slot->request.set_input_tensor(port.port, slot->memory.back());
    }
    for (const Port& port : small_outputs_) {
      slot->memory.emplace_back(port.type, shape_of(spec_.outputs[port.place].sizes({})));
      slot->request.set_output_tensor(port.port, slot->memory.back());
    }
    slot->inputs.resize(inputs_.size());
    slot->outputs.resize(outputs_.size());
    return slot;
  }

  void give_back(std::unique_ptr<Slot> slot) {
    const std::lock_guard<std::mutex> lock(free_mutex_);
    free_.push_back(std::move(slot));
  }

  // The outputs' sizes, computed when the inputs' are not those of the slot's last run.
  const std::vector<std::vector<int64_t>>& sizes_for(Slot& slot, c10::ArrayRef<at::Tensor> inputs) const {
    bool same = slot.solved_for.size() == inputs.size() && !slot.output_sizes.empty();
    for (size_t at = 0; same && at < inputs.size(); ++at) {
      same = inputs[at].sizes() == c10::IntArrayRef(slot.solved_for[at]);
    }
    if (same) {
      return slot.output_sizes;
    }
    slot.output_sizes.clear();
    slot.solved_for.clear();
    const Values values = check_agreement(spec_, inputs);
    for (size_t place = 0; place < spec_.outputs.size(); ++place) {
      slot.output_sizes.push_back(known_[place] ? spec_.outputs[place].sizes(values) : std::vector<int64_t>());
    }
    for (const at::Tensor& tensor : inputs) {
      slot.solved_for.push_back(tensor.sizes().vec());
    }
    return slot.output_sizes;
  }

  // `tensor` as OpenVINO can read it; what had to be copied for that is kept in `kept`.
  const at::Tensor& prepared(const Port& port, const at::Tensor& tensor, Tensors& kept) const {
    const at::Tensor* ready = &tensor;
    if (!tensor.is_contiguous() || tensor.is_neg()) {
      kept.push_back(tensor.resolve_neg().contiguous());
      ready = &kept.back();
    }
    if (port.dtype == c10::kLong) {
      check_int32(spec_, spec_.inputs[port.place], *ready);
    }
    return *ready;
  }

  void feed(Slot& slot, c10::ArrayRef<at::Tensor> inputs, Tensors& kept) const {
    kept.reserve(inputs.size()); // so that what is in it stays where it is
    for (size_t at = 0; at < small_inputs_.size(); ++at) {
      const at::Tensor& tensor = prepared(small_inputs_[at], inputs[small_inputs_[at].place], kept);
      std::memcpy(slot.memory[at].data(), tensor.const_data_ptr(), small_inputs_[at].bytes);
    }
    for (size_t at = 0; at < inputs_.size(); ++at) {
      const at::Tensor& tensor = prepared(inputs_[at], inputs[inputs_[at].place], kept);
      void* data = address(tensor.const_data_ptr());
      if (tell(slot.inputs[at], data, tensor.sizes())) {
        slot.request.set_input_tensor(
            inputs_[at].port, ov::Tensor(inputs_[at].type, shape_of(tensor.sizes()), data));
      }
    }
  }

  // Whether the request has to be told: it keeps what it was told last.
  static bool tell(Slot::Bound& bound, const void* data, c10::IntArrayRef sizes) {
    if (bound.data == data && c10::IntArrayRef(bound.sizes) == sizes) {
      return false;
    }
    bound.data = data;
    bound.sizes = sizes.vec();
    return true;
  }

  Tensors allocate(const std::vector<std::vector<int64_t>>& sizes) const {
    Tensors outputs(spec_.outputs.size());
    for (const auto* ports : {&small_outputs_, &outputs_}) {
      for (const Port& port : *ports) {
        outputs[port.place] = at::detail::empty_cpu(sizes[port.place], port.dtype);
      }
    }
    return outputs;
  }

  void bind(Slot& slot, const std::vector<std::vector<int64_t>>& sizes, const Tensors& outputs) const {
    for (size_t at = 0; at < outputs_.size(); ++at) {
      const Port& port = outputs_[at];
      void* data = address(outputs[port.place].mutable_data_ptr());
      if (tell(slot.outputs[at], data, sizes[port.place])) {
        slot.request.set_output_tensor(port.port, ov::Tensor(port.type, shape_of(sizes[port.place]), data));
      }
    }
  }

  c10::Storage storage_; // the compiled model goes on using these bytes
  ov::Tensor weights_; // and these, when it was compiled again
  ov::CompiledModel compiled_;
  std::vector<Port> small_inputs_, small_outputs_, inputs_, outputs_;
  std::vector<Port> found_outputs_; // for which OpenVINO finds sizes and memory in each run
  std::vector<bool> known_; // per output: whether its sizes follow from those of the inputs
  std::vector<Copy> copies_;
  bool static_ = false;
  std::vector<std::vector<int64_t>> fixed_sizes_;
  std::mutex free_mutex_;
  std::vector<std::unique_ptr<Slot>> free_;
};

} // namespace

std::shared_ptr<Engine> open_openvino_engine(DecodedEngine decoded, c10::Storage storage) {
  return std::make_shared<OpenVINOEngine>(std::move(decoded), std::move(storage));
}

} // namespace torchtrt
