// Which engine stands behind a constant, and which backend reads it.
#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <mutex>
#include <shared_mutex>
#include <unordered_map>

#include "engine.h"
#include "errors.h"
#ifdef TORCHTRT_WITH_OPENVINO
#include "openvino_engine.h"
#endif
#ifdef TORCHTRT_WITH_TENSORRT
#include "tensorrt_engine.h"
#endif

namespace torchtrt {
namespace {

struct Backend {
  const char* name;
  int64_t format_version;
  std::shared_ptr<Engine> (*open)(DecodedEngine decoded, c10::Storage storage);
};

const std::vector<Backend>& known() {
  static const std::vector<Backend> backends = {
#ifdef TORCHTRT_WITH_OPENVINO
      {"openvino", 1, open_openvino_engine},
#endif
#ifdef TORCHTRT_WITH_TENSORRT
      {TORCHTRT_WITH_TENSORRT, 1, open_tensorrt_engine},
#endif
  };
  return backends;
}

// Live engines by the address of their constant. An engine keeps its constant's storage, so an address that is in here can't
// be that of other bytes; what tells that the constant is gone is the weak reference to the tensor.
class LiveEngines {
 public:
  std::shared_ptr<Engine> find(const at::Tensor& constant) const {
    const std::shared_lock<std::shared_mutex> lock(mutex_);
    const auto entry = entries_.find(constant.const_data_ptr());
    return entry != entries_.end() && entry->second.storage == constant.storage().unsafeGetStorageImpl() &&
            entry->second.bytes == constant.numel()
        ? entry->second.engine
        : nullptr;
  }

  std::shared_ptr<Engine> find_or_open(const at::Tensor& constant, std::string_view spec) {
    const std::lock_guard<std::mutex> one_at_a_time(opening_);
    if (auto engine = find(constant)) { // made while this thread waited
      return engine;
    }
    drop_unused();
    auto engine = open_engine(constant, spec);
    if (!engine->notice().empty()) {
      TORCH_WARN(engine->notice());
    }
    const std::unique_lock<std::shared_mutex> lock(mutex_);
    entries_.insert_or_assign(
        constant.const_data_ptr(),
        Entry{
            c10::weak_intrusive_ptr<c10::TensorImpl>(constant.getIntrusivePtr()),
            constant.storage().unsafeGetStorageImpl(), constant.numel(), engine});
    return engine;
  }

 private:
  struct Entry {
    c10::weak_intrusive_ptr<c10::TensorImpl> constant;
    const c10::StorageImpl* storage;
    int64_t bytes;
    std::shared_ptr<Engine> engine;
  };

  void drop_unused() {
    std::vector<std::shared_ptr<Engine>> dropped; // destroyed after the lock is gone
    const std::unique_lock<std::shared_mutex> lock(mutex_);
    for (auto entry = entries_.begin(); entry != entries_.end();) {
      if (entry->second.constant.expired()) {
        dropped.push_back(std::move(entry->second.engine));
        entry = entries_.erase(entry);
      } else {
        ++entry;
      }
    }
  }

  mutable std::shared_mutex mutex_;
  std::mutex opening_;
  std::unordered_map<const void*, Entry> entries_;
};

LiveEngines& live() {
  static auto* engines = new LiveEngines(); // never destroyed: SDKs take their threads down before static objects go
  return *engines;
}

} // namespace

bool is_plain(const at::Tensor& tensor) {
  return !tensor.unsafeGetTensorImpl()->is_python_dispatch() && !tensor.is_nested();
}

std::vector<std::pair<std::string, int64_t>> backends() {
  std::vector<std::pair<std::string, int64_t>> formats;
  for (const Backend& backend : known()) {
    formats.emplace_back(backend.name, backend.format_version);
  }
  return formats;
}

std::shared_ptr<Engine> open_engine(
    const at::Tensor& constant, std::optional<std::string_view> graph_spec, bool verify) {
  if (!constant.defined() || !is_plain(constant) || constant.scalar_type() != c10::kByte || constant.dim() != 1 ||
      !constant.is_cpu() || !constant.is_contiguous()) {
    fail<InputError>("An engine is a contiguous one-dimensional uint8 tensor on the CPU; something else was given.");
  }
  const auto size = static_cast<size_t>(constant.numel());
  auto decoded = decode_engine(static_cast<const uint8_t*>(constant.const_data_ptr()), size, graph_spec, verify);
  const char* hint =
      decoded.portable ? " Its file is portable: torch_tensorrt in Python builds an engine for this machine from it." : "";
  std::string names;
  for (const Backend& backend : known()) {
    if (decoded.spec.backend != backend.name) {
      names += (names.empty() ? "" : ", ") + std::string(backend.name);
      continue;
    }
    if (decoded.spec.format_version != backend.format_version) {
      fail<FileFormatError>(
          "Engine '", decoded.spec.name, "' has format ", decoded.spec.format_version, " of the '", backend.name,
          "' backend; this runtime reads ", backend.format_version, ". Compile and save the model again.", hint);
    }
    return backend.open(std::move(decoded), constant.storage());
  }
  fail<EngineNotRunnable>(
      "Engine '", decoded.spec.name, "' needs the '", decoded.spec.backend, "' backend (built for ",
      decoded.spec.target, "); this build of the C++ runtime has ", names.empty() ? "none" : names,
      ". Run it in Python with torch_tensorrt, or build the runtime with that SDK.", hint);
}

std::shared_ptr<Engine> live_engine(const at::Tensor& constant, std::string_view graph_spec) {
  if (auto engine = live().find(constant)) {
    return engine;
  }
  return live().find_or_open(constant, graph_spec);
}

} // namespace torchtrt
